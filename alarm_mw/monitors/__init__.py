"""Waits for conditions that are not lines."""
