"""A user's module: how it is called and copied, what it is asked for, and which of its parameters have a structure."""
