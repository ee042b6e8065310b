"""One small file per op family. Importing this package registers every op."""

from gramian.arch.ops.activation import Activation
from gramian.arch.ops.affine import Affine, Conv, Linear
from gramian.arch.ops.axes import Aggregate, AxisMaps, Pad, Resize, Take
from gramian.arch.ops.base import READERS, Call, Op, Parameter, Value, reads
from gramian.arch.ops.combine import Scale, Shift, Sum
from gramian.arch.ops.concat import Concat, Join, Product
from gramian.arch.ops.erf import GELU, Erf
from gramian.arch.ops.layernorm import GroupNorm, LayerNorm
from gramian.arch.ops.layout import Permute
from gramian.arch.ops.matmul import MatMul
from gramian.arch.ops.norm import BatchNorm, Identity, Normalization
from gramian.arch.ops.pool import AdaptivePool, Average, AveragePool, Reshape
from gramian.arch.ops.relu import LeakyReLU, ReLU
from gramian.arch.ops.smooth import Smooth
from gramian.arch.ops.transposed import ConvTranspose

__all__ = [
    "GELU",
    "READERS",
    "Activation",
    "AdaptivePool",
    "Affine",
    "Aggregate",
    "Average",
    "AveragePool",
    "AxisMaps",
    "BatchNorm",
    "Call",
    "Concat",
    "Conv",
    "ConvTranspose",
    "Erf",
    "GroupNorm",
    "Identity",
    "Join",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MatMul",
    "Normalization",
    "Op",
    "Pad",
    "Parameter",
    "Permute",
    "Product",
    "ReLU",
    "Reshape",
    "Resize",
    "Scale",
    "Shift",
    "Smooth",
    "Sum",
    "Take",
    "Value",
    "reads",
]
