"""Regexps: their syntax and tree, their worst case, their literals, and the prefilter of all rules."""
