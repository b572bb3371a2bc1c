"""The application's side: the client, the current master, the middlewares, capture of prints, signals and mules."""
