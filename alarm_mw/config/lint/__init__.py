"""What `alarm-mw check` finds beyond mistakes."""
