"""What both middlewares do with a request: what has to be known of it, how it is watched, and how it is judged."""
