"""PCRE's syntax, read into a `tree`: `pcre` reads a pattern with the help of the other modules.

- `characters`: one byte or a set of bytes, by an escape, a class or a POSIX name.
- `items`: options, quantifiers, places and verbs.
- `groups`: numbers and names of groups, references to them and calls of them.
"""
