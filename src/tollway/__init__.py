"""Tollway: a self-hosted gateway to language models, with one key and one credit balance."""

__version__ = "0.1.0"
