"""Wires engine, delivery and transports, and runs them."""
