"""Alarms for Python web applications."""
