"""What all others speak of: records and firings, the protocols of plugins, errors, the values of options."""
