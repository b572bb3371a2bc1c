"""What programs ask: Alertmanager's API v2 (`alertmanager`), health and metrics (`operations`)."""
