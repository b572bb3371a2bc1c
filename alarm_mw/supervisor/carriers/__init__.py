"""What carries the output: masters, each with what the one before left behind, and relays."""
