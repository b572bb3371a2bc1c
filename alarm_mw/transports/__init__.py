"""From the application to the master."""
