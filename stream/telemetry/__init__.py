"""What a process tells of itself, and how a running cluster is read."""
