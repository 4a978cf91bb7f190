"""Values and rules: no await, clock, random number, file, socket or logger lives below this package."""
