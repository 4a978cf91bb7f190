"""The command line: one binary, nouns then verbs."""
