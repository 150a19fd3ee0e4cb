"""streamrec: shoppers' clicks and searches in, refreshed recommendation lists out, in milliseconds."""

__version__ = "0.1.0"
