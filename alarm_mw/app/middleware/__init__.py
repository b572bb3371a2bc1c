"""What both middlewares do with a request: which facts they collect, how they watch it, and how they evaluate it."""
