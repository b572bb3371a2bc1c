"""Ready rule sets, under the names of the servers."""
