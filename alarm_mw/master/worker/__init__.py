"""The worker thread: applies the rules and writes firings into the outbox."""
