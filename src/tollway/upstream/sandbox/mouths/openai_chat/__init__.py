"""OpenAI Chat Completions, as an upstream speaks it: reading requests, writing answers, and writing them wrongly."""
