"""The verbs that start something: a server, or what follows logs."""
