"""The server's output: read, prefiltered, passed on."""
