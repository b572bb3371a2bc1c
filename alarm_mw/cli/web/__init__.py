"""``alarm-mw web``: links to the page of a server, and one page of all servers of this user."""
