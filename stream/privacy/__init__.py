"""What is kept from logs, removed on request, and given out on request."""
