"""What programs ask: Alertmanager's API (`alertmanager`), our own (`v1`), health and metrics (`health`).

`operation` makes routes of functions and their types, and `openapi` a document of both.
"""
