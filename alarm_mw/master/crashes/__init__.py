"""Deaths of processes: everything that is seen of one, made into one."""
