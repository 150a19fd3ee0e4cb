"""Which versions of the models serve, and how another one takes over."""
