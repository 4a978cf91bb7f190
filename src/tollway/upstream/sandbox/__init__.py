"""The built-in provider that needs no key: deterministic models, and models that misbehave on purpose."""
