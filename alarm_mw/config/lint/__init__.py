"""What `alarm-mw check` warns about beyond mistakes."""
