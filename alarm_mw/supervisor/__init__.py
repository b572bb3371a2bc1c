"""alarm-mw run: parent of the server and of the master. Standard library only."""
