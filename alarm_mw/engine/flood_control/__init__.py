"""Flood control: limits, their state, and the digests that report what was held back."""
