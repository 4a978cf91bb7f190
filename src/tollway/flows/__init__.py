"""What the gateway does, one verb a module: the only code that joins core and I/O."""
