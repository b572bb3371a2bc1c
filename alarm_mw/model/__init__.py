"""Shared types: records and firings, plugin protocols, errors, option values."""
