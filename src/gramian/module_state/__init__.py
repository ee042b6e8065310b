"""The state of a user's module while it is lent: it is afterwards what it was."""
