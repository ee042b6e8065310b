"""Certificates that are theorems about one network and one run, and their independent checker."""

from gramian.checker import Checked, check
from gramian.prove.proof import NOT_PROVED, PROVED, Proof
from gramian.prove.prove import prove

__all__ = ["NOT_PROVED", "PROVED", "Checked", "Proof", "check", "prove"]
