"""The command line. Nothing here imports torch before a command needs it: `gramian --help` answers at once."""

from gramian.cli.app import app, main

__all__ = ["app", "main"]
