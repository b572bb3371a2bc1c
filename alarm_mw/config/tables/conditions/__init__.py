"""The conditions of rules from tables: on requests, and on fields of records."""
