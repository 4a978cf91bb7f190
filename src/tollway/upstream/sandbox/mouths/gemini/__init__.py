"""Gemini, as an upstream speaks it: contents in, chunks of whole responses out, thoughts signed."""
