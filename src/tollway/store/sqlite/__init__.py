"""The store in one SQLite file: for one serving process, with nothing else to install."""
