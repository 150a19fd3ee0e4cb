"""Ways of finding candidates. One file a source."""
