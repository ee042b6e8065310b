"""Training with probes: gradient descent and its kin on any module, measured while it runs; and advice beforehand."""

from gramian.train.antisymmetric import Antisymmetric
from gramian.train.kernel_comparison import KernelComparison, beside_kernel
from gramian.train.probes import PROBES, Probe, Reading, SemiSmoothness
from gramian.train.settings import Settings
from gramian.train.suggest import Advice, suggest
from gramian.train.theorem_networks import AllenZhuNetwork, DuNetwork
from gramian.train.trace import Series, Trace
from gramian.train.trainer import train
from gramian.train.tuned_run import TunedRun, tuned_run
from gramian.train.two_layer_relu import two_layer_relu

__all__ = [
    "PROBES",
    "Advice",
    "AllenZhuNetwork",
    "Antisymmetric",
    "DuNetwork",
    "KernelComparison",
    "Probe",
    "Reading",
    "SemiSmoothness",
    "Series",
    "Settings",
    "Trace",
    "TunedRun",
    "beside_kernel",
    "suggest",
    "train",
    "tuned_run",
    "two_layer_relu",
]
