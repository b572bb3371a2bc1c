"""The fields of records: lines in JSON and logfmt, the facts that they state, and conditions of rules on them."""
