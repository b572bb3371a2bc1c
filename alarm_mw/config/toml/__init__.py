"""TOML: documents with a place for each value, and TOML made from uWSGI options."""
