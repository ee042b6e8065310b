"""One small file per op family. Importing this package registers every op."""

from gramian.arch.ops.activation import Activation
from gramian.arch.ops.affine import Affine, Conv, Linear
from gramian.arch.ops.base import READERS, Call, Op, Parameter, Value, reads
from gramian.arch.ops.combine import Scale, Shift, Sum
from gramian.arch.ops.erf import GELU, Erf
from gramian.arch.ops.exponential import Cos, Exp, Gaussian, Sin
from gramian.arch.ops.fuse import fuse
from gramian.arch.ops.kinked import Kinked, Piecewise
from gramian.arch.ops.norm import BatchNorm, Identity
from gramian.arch.ops.pointwise import At, Pointwise
from gramian.arch.ops.polynomial import Polynomial, RectifiedPower
from gramian.arch.ops.pool import AveragePool, GlobalAverage, Pad, Reshape
from gramian.arch.ops.relu import Abs, LeakyReLU, PReLU, ReLU, RReLU
from gramian.arch.ops.sign import Sign, Step
from gramian.arch.ops.smooth import Smooth

__all__ = [
    "GELU",
    "READERS",
    "Abs",
    "Activation",
    "Affine",
    "At",
    "AveragePool",
    "BatchNorm",
    "Call",
    "Conv",
    "Cos",
    "Erf",
    "Exp",
    "Gaussian",
    "GlobalAverage",
    "Identity",
    "Kinked",
    "LeakyReLU",
    "Linear",
    "Op",
    "PReLU",
    "Pad",
    "Parameter",
    "Piecewise",
    "Pointwise",
    "Polynomial",
    "RReLU",
    "ReLU",
    "RectifiedPower",
    "Reshape",
    "Scale",
    "Shift",
    "Sign",
    "Sin",
    "Smooth",
    "Step",
    "Sum",
    "Value",
    "fuse",
    "reads",
]
