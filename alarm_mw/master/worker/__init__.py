"""The worker thread: takes batches, applies the rules, and writes firings into the outbox.

The order of a line is `worker` (takes a batch), `evaluator` (applies the engine), then the outbox and the dispatcher.
"""
