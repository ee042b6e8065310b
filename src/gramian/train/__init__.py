"""Training with probes: gradient descent and its kin on any module, measured while it runs; and advice beforehand."""

from gramian.train.probes import PROBES, Probe, Reading, SemiSmoothness
from gramian.train.settings import Settings
from gramian.train.suggest import Advice, suggest
from gramian.train.theorem_networks import AllenZhuNetwork, DuNetwork
from gramian.train.trace import Series, Trace
from gramian.train.trainer import train

__all__ = [
    "PROBES",
    "Advice",
    "AllenZhuNetwork",
    "DuNetwork",
    "Probe",
    "Reading",
    "SemiSmoothness",
    "Series",
    "Settings",
    "Trace",
    "suggest",
    "train",
]
