"""Where a dialect is served: at its own API, or on a cloud platform with other paths and other credentials."""
