"""uWSGI's configuration: ini files and flags, read as uWSGI reads them."""
