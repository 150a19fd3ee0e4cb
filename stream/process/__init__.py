"""The life of a process: how it begins, whether it moves, how it ends, what it logs."""
