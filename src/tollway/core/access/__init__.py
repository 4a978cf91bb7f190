"""Who may call what, how often: API keys, their scopes and their limits."""
