"""Starts a server under the supervisor: `alarm-mw run`, and the same from inside a program."""
