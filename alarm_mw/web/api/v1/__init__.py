"""Our own API, below ``/api/1/``: the values (`schema`), the operations (`handlers`), and their page (`routes`)."""
