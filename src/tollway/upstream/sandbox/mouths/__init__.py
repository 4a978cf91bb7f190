"""The wire dialects the sandbox speaks, one folder each; `base.py` says what a mouth is."""
