"""The syntaxes that a pattern is read from, and the one that it is written in.

- `python`: what Python's own parser understands.
- `pcre`: PCRE's syntax, with `characters` (a character or a set of them, by an escape, a class or a name), `items`
  (options, quantifiers, the start of a pattern, places) and `groups` (numbers, names, references, calls).
- `render`: a pattern that `re` and `regex` read alike, with its sets by `render_sets`.
"""
