"""What is known of a regexp: its syntax and tree, its worst case, its literals, and the prefilter of all rules."""
