"""The verbs that show what alarms would send, or send tests."""
