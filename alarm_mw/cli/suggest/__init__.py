"""``alarm-mw suggest``: groups the lines of logs, ranks the groups by how they look like trouble, proposes rules."""
