"""Decides what fires: pure, without threads, I/O or a clock."""
