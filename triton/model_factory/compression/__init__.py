"""Making a learnt model small and fast, and turning it into what Triton serves."""
