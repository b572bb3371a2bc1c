"""``alarm-mw top``: what the masters say (`masters`), as text (`now`), once or live (`app`)."""
