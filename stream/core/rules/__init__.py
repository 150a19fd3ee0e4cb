"""What a shop demands of a list. One file a rule."""
