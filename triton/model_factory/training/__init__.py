"""Learning weights: recipes, methods, runs that can be resumed."""
