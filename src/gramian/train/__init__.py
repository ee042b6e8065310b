"""Training with probes: gradient descent and its kin on any module, measured while it runs."""

from gramian.train.parametrization import AllenZhuNetwork, DuNetwork
from gramian.train.probes import PROBES, Probe, Reading, SemiSmoothness
from gramian.train.trace import Series, Trace
from gramian.train.trainer import train

__all__ = ["PROBES", "AllenZhuNetwork", "DuNetwork", "Probe", "Reading", "SemiSmoothness", "Series", "Trace", "train"]
