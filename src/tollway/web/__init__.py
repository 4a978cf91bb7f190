"""HTTP towards clients: the server, the route registry and the replies."""
