"""Delivers what fired: outbox, lanes, retries."""
