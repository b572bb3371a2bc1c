"""Decides what fires. Pure: no threads, no I/O, no clock."""
