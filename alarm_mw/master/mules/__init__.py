"""Mules and the processes that asked for signals."""
