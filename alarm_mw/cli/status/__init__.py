"""``alarm-mw status``, ``fleet``: one server, and all machines that share with it."""
