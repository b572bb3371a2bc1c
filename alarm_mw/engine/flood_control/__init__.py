"""Holds alarms back: limits, what they remember, and the digests that say what was held back."""
