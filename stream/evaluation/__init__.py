"""Measuring lists on a log, with the code that serves."""
