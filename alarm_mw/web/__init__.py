"""The page and the HTTP API: what a master knows, for people and for programs.

`app` shows how routes are added. Nothing here starts a thread or listens: the master does (`master.control.web_port`).
"""
