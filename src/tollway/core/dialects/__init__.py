"""Text dialects: one package each, none knowing another."""
