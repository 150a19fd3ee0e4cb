"""Measuring models on data they never saw, with intervals."""
