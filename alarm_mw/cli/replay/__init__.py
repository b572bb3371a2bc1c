"""``alarm-mw replay``: evaluates the rules on logs, or simulates what they would have sent, and fires nothing."""
