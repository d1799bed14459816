"""Rondo's services. Each is a process of its own and imports no other; see `__main__` for the list."""
