"""Who asks, and what may be done: identities, passwords, guards of routes, and signed links."""
