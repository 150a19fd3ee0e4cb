"""Use cases that make lists, and what follows from a list."""
