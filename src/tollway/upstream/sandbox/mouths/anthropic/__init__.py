"""Anthropic Messages, as an upstream speaks it: what it refuses, what it signs, and its event grammar."""
