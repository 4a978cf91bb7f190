"""The command line: `tollway serve` and the commands that administer a running or stopped gateway.

Data goes to stdout, messages to stderr. Modules here import nothing heavy at their top, so that
help and errors are quick; a command imports what it needs when it runs.
"""
