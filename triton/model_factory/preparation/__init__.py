"""From a shop's raw files to data that models learn from."""
