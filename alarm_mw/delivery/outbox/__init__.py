"""The outbox: firings in SQLite until they are delivered."""
