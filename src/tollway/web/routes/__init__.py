"""One module per family of routes; each entry goes into the registry."""
