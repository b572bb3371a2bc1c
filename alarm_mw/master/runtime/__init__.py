"""Engine, outbox, worker thread and event loop of one master, wired and run."""
