"""The pure core: no async, no clock, no I/O, no logging. Everything here is a function of its input."""
