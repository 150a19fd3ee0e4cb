"""What is learnt about items: how it gets into the store, and what a worker remembers of it."""
