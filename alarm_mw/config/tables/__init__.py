"""Tables of a TOML file and keywords of `init()`, checked key by key."""
