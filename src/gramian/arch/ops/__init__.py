"""One small file per op family. Importing this package registers every op."""

from gramian.arch.ops.activation import Activation
from gramian.arch.ops.affine import Affine, Conv, Linear
from gramian.arch.ops.attention import Attention
from gramian.arch.ops.axes import Aggregate, AxisMaps, Pad, Resize, Take
from gramian.arch.ops.base import GROUPED, READERS, Call, Op, Parameter, Value, reads
from gramian.arch.ops.combine import Shift, Sum
from gramian.arch.ops.computed import Computed
from gramian.arch.ops.concat import Beside, Concat, Join, Product
from gramian.arch.ops.copies import Copies
from gramian.arch.ops.dropout import Dropout
from gramian.arch.ops.embedding import Constant, Embedding, Tokens
from gramian.arch.ops.erf import GELU, Erf
from gramian.arch.ops.exponential import Cos, Exp, Gaussian, Sin
from gramian.arch.ops.fuse import fuse
from gramian.arch.ops.graphs import Graph
from gramian.arch.ops.layernorm import GroupNorm, LayerNorm
from gramian.arch.ops.linear_attention import LinearAttention
from gramian.arch.ops.locally_connected import Local, Unfold, local
from gramian.arch.ops.matmul import MatMul
from gramian.arch.ops.norm import BatchNorm, Identity, Normalization
from gramian.arch.ops.permute import Permute
from gramian.arch.ops.piecewise import Kinked, Piecewise
from gramian.arch.ops.pointwise import LineResult, Pointwise
from gramian.arch.ops.polynomial import Polynomial, RectifiedPower
from gramian.arch.ops.pool import AdaptivePool, Average, AveragePool, Reshape
from gramian.arch.ops.relu import Abs, LeakyReLU, PReLU, ReLU, RReLU, TwoSlopes
from gramian.arch.ops.scalar_output import Single
from gramian.arch.ops.scale import Scale
from gramian.arch.ops.sign import Heaviside, Sign
from gramian.arch.ops.smooth import Smooth
from gramian.arch.ops.transposed import ConvTranspose
from gramian.arch.ops.weighted import Factor, Masked, PerPosition

__all__ = [
    "GELU",
    "GROUPED",
    "READERS",
    "Abs",
    "Activation",
    "AdaptivePool",
    "Affine",
    "Aggregate",
    "Attention",
    "Average",
    "AveragePool",
    "AxisMaps",
    "BatchNorm",
    "Beside",
    "Call",
    "Computed",
    "Concat",
    "Constant",
    "Conv",
    "ConvTranspose",
    "Copies",
    "Cos",
    "Dropout",
    "Embedding",
    "Erf",
    "Exp",
    "Factor",
    "Gaussian",
    "Graph",
    "GroupNorm",
    "Heaviside",
    "Identity",
    "Join",
    "Kinked",
    "LayerNorm",
    "LeakyReLU",
    "LineResult",
    "Linear",
    "LinearAttention",
    "Local",
    "Masked",
    "MatMul",
    "Normalization",
    "Op",
    "PReLU",
    "Pad",
    "Parameter",
    "PerPosition",
    "Permute",
    "Piecewise",
    "Pointwise",
    "Polynomial",
    "Product",
    "RReLU",
    "ReLU",
    "RectifiedPower",
    "Reshape",
    "Resize",
    "Scale",
    "Shift",
    "Sign",
    "Sin",
    "Single",
    "Smooth",
    "Sum",
    "Take",
    "Tokens",
    "TwoSlopes",
    "Unfold",
    "Value",
    "fuse",
    "local",
    "reads",
]
