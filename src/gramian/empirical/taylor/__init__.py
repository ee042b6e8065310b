"""Models of first and second order around the present parameters."""
