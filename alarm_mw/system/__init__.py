"""Linux, as the rest needs it: descriptors, sockets, permissions, forks, processes."""
