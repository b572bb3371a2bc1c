"""uWSGI's signals and mules in processes of the application."""
