"""What a master answers: the control API, status, metrics."""
