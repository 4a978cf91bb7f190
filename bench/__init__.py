"""Benchmarks: what the gateway costs beside nginx and beside its peers, measured in one run."""
