"""Health tasks, one file each: data, protocol, networks, score."""
