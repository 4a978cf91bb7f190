"""Outgoing HTTP: the client that relays, the channels it speaks to and the built-in sandbox provider."""
