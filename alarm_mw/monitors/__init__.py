"""Waiting for conditions that are not lines: one file per monitor, named as in the configuration."""
