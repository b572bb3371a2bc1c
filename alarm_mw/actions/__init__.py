"""What an alarm does: one file per plugin, named as in the configuration."""
