"""Lines of existing logs: files, by whatever name they are rotated, and systemd's journal.

`follower` owns the thread that reads files, `intake` hands what it has read to the worker, `tail` is one of the files,
`rotation` finds where a rotated log goes on, and `position` is what the outbox remembers. `journal` reads the journal.
Loaded only where ``[[follow]]`` asks for it.
"""
