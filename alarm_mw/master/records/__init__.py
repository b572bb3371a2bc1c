"""Records from the application's processes."""
