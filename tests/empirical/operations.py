"""Some 220 operations of torch, each as what a network does between two layers: one number or more of each sample."""

import torch
import torch.nn.functional as F
from shaped_operations import IMAGES, MATRICES, big, sym
from torch import linalg


def image(h):
    """(n, 1, 2, 3)"""
    return h.reshape(-1, 1, 2, 3)


def line(h):
    """(n, 2, 3)"""
    return h.reshape(-1, 2, 3)


UNARY = {
    name: getattr(torch, name)
    for name in [
        "abs",
        "acos",
        "acosh",
        "asin",
        "asinh",
        "atan",
        "atanh",
        "ceil",
        "cos",
        "cosh",
        "deg2rad",
        "digamma",
        "erf",
        "erfc",
        "erfinv",
        "exp",
        "exp2",
        "expm1",
        "floor",
        "frac",
        "lgamma",
        "log",
        "log10",
        "log1p",
        "log2",
        "logit",
        "neg",
        "positive",
        "rad2deg",
        "reciprocal",
        "round",
        "rsqrt",
        "sgn",
        "sigmoid",
        "sign",
        "sin",
        "sinc",
        "sinh",
        "sqrt",
        "square",
        "tan",
        "tanh",
        "trunc",
        "i0",
        "nan_to_num",
    ]
}
SPECIAL = {
    "special." + name: getattr(torch.special, name)
    for name in ["entr", "erfcx", "i0e", "i1", "i1e", "log_ndtr", "ndtr", "ndtri", "xlog1py"]
    if name != "xlog1py"
}
ACTIVATIONS = {
    "F." + name: getattr(F, name)
    for name in [
        "celu",
        "elu",
        "gelu",
        "hardshrink",
        "hardsigmoid",
        "hardswish",
        "hardtanh",
        "leaky_relu",
        "logsigmoid",
        "mish",
        "relu",
        "relu6",
        "rrelu",
        "selu",
        "silu",
        "softplus",
        "softshrink",
        "softsign",
        "tanhshrink",
    ]
}
# inside the domain of every one of them, and where it is smooth
OPEN = {"acosh": lambda h: 1.5 + h.sigmoid(), "erfinv": torch.sin, "special.ndtri": torch.sigmoid}
OPEN |= dict.fromkeys(("acos", "asin", "atanh"), lambda h: 0.9 * h.tanh())
OPEN |= dict.fromkeys(
    ["digamma", "lgamma", "log", "log10", "log2", "log1p", "reciprocal", "rsqrt", "sqrt", "special.entr"],
    lambda h: 0.3 + h * h,
)
OPEN |= {"logit": lambda h: 0.1 + 0.8 * h.sigmoid()}


def _elementwise():
    for name, f in (UNARY | SPECIAL | ACTIVATIONS).items():
        first = OPEN.get(name, lambda h: h)
        yield name, lambda h, w, f=f, first=first: f(first(h)) * w


PAIRS = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": lambda a, b: a / (1 + b * b),
    "atan2": torch.atan2,
    "hypot": torch.hypot,
    "logaddexp": torch.logaddexp,
    "logaddexp2": torch.logaddexp2,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "fmax": torch.fmax,
    "fmin": torch.fmin,
    "pow": lambda a, b: (0.5 + a * a).pow(b),
    "float_power": lambda a, b: torch.float_power(0.5 + a * a, b),
    "fmod": lambda a, b: torch.fmod(a, 1 + b * b),
    "remainder": lambda a, b: torch.remainder(a, 1 + b * b),
    "copysign": torch.copysign,
    "xlogy": lambda a, b: torch.xlogy(a, 0.5 + b * b),
    "lerp": lambda a, b: torch.lerp(a, b, 0.3),
    "lerp of a tensor": lambda a, b: torch.lerp(a, b, b),
    "addcmul": lambda a, b: torch.addcmul(a, a, b),
    "addcdiv": lambda a, b: torch.addcdiv(a, a, 1 + b * b),
    "heaviside": lambda a, b: torch.heaviside(a, b) * a,
    "where": lambda a, b: torch.where(a > 0, a, b),
    "clamp by tensors": lambda a, b: torch.clamp(a, -b.abs(), b.abs()),
    "cross": lambda a, b: torch.cross(a.reshape(-1, 2, 3), b.expand_as(a).reshape(-1, 2, 3), 2).flatten(1),
    "prelu": lambda a, b: F.prelu(a, b),
    "prelu of one": lambda a, b: F.prelu(a, b[:1]),
    "ldexp": lambda a, b: torch.ldexp(a, torch.tensor(2)) * b,
    "dist": lambda a, b: (a - b).norm(dim=1, keepdim=True),
    "mse": lambda a, b: F.mse_loss(a, b.expand_as(a), reduction="none"),
    "smooth_l1": lambda a, b: F.smooth_l1_loss(a, b.expand_as(a), reduction="none"),
    "huber": lambda a, b: F.huber_loss(a, b.expand_as(a), reduction="none", delta=0.3),
    "soft_margin": lambda a, b: F.soft_margin_loss(a, b.expand_as(a), reduction="none"),
    "kl_div": lambda a, b: F.kl_div(a.log_softmax(1), b.softmax(0).expand_as(a), reduction="none"),
    "bce with logits": lambda a, b: F.binary_cross_entropy_with_logits(a, b.sigmoid().expand_as(a), reduction="none"),
    "bce": lambda a, b: F.binary_cross_entropy(a.sigmoid(), b.sigmoid().expand_as(a), reduction="none"),
    "poisson": lambda a, b: F.poisson_nll_loss(a, b.expand_as(a), reduction="none"),
    "gaussian nll": lambda a, b: F.gaussian_nll_loss(a, b.expand_as(a), 1 + a * a, reduction="none"),
    "cosine_similarity": lambda a, b: F.cosine_similarity(a, b.expand_as(a))[:, None],
    "pairwise_distance": lambda a, b: F.pairwise_distance(a, b.expand_as(a))[:, None],
    "bilinear": lambda a, b: F.bilinear(a, a, b.expand(2, 6, 6)),
    "outer": lambda a, b: (a[:, :, None] * b).flatten(1),
    "normalize by": lambda a, b: F.normalize(a * b),
    "glu": lambda a, b: F.glu(a * b),
    "tensordot": lambda a, b: torch.tensordot(a, b[:, None] + b, 1),
    "inner": lambda a, b: torch.inner(a, b[None] * b[:, None]),
    "matmul": lambda a, b: a @ (b[:, None] * b),
    "mv": lambda a, b: torch.mv(a, b)[:, None],
    "addmm": lambda a, b: torch.addmm(b, a, b[:, None] * b),
    "einsum": lambda a, b: torch.einsum("ni,i,ni->ni", a, b, a),
    "bmm": lambda a, b: torch.bmm(line(a * b), line(a).mT).flatten(1),
    "baddbmm": lambda a, b: torch.baddbmm(sym(a), line(a * b), line(a).mT).flatten(1),
    "kron": lambda a, b: (sym(a)[:, :, None, :, None] * b[:4].reshape(2, 2)[:, None]).flatten(1),
    "linear": lambda a, b: F.linear(a, b.expand(3, 6) * torch.arange(1.0, 4.0, dtype=b.dtype)[:, None], b[:3]),
    "conv1d": lambda a, b: F.conv1d(line(a), b.reshape(3, 2, 1)).flatten(1),
    "conv2d": lambda a, b: F.conv2d(image(a), b.reshape(3, 1, 2, 1)).flatten(1),
    "conv_transpose1d": lambda a, b: F.conv_transpose1d(line(a), b.reshape(2, 1, 3)).flatten(1),
    "conv_transpose2d": lambda a, b: F.conv_transpose2d(image(a), b.reshape(1, 1, 2, 3)).flatten(1),
    "conv3d": lambda a, b: F.conv3d(image(a)[:, None], b.reshape(3, 1, 1, 2, 1)).flatten(1),
    "grouped conv1d": lambda a, b: F.conv1d(line(a), b.reshape(2, 1, 3), groups=2, padding=1).flatten(1),
    "index_select": lambda a, b: torch.index_select(a * b, 1, torch.tensor([0, 2, 2])),
    "embedding": lambda a, b: F.embedding(torch.tensor([0, 1, 1]), b.reshape(3, 2)).flatten() * a,
    "embedding_bag": lambda a, b: F.embedding_bag((a.detach() > 0).long(), b.reshape(3, 2)) * a[:, :2],
    "polygamma": lambda a, b: torch.polygamma(1, 0.5 + a * a) * b,
    "mvlgamma": lambda a, b: torch.mvlgamma(2 + a * a, 2) * b,
    "igamma": lambda a, b: torch.special.gammainc(torch.tensor(1.5, dtype=a.dtype), 0.2 + a * a) * b,
    "zeta": lambda a, b: torch.special.zeta(torch.tensor(2.0, dtype=a.dtype), 1.2 + a * a) * b,
    "layer_norm": lambda a, b: F.layer_norm(a, (6,), b, b),
    "rms_norm": lambda a, b: F.rms_norm(a, (6,), b),
    "group_norm": lambda a, b: F.group_norm(a, 2, b, b),
    "local_response": lambda a, b: F.local_response_norm(line(a * b), 2).flatten(1),
    "instance_norm": lambda a, b: F.instance_norm(line(a), None, None, b[:2], b[2:4]).flatten(1),
    "batch_norm": lambda a, b: F.batch_norm(a, torch.zeros(6).to(a), 2 * torch.ones(6).to(a), b, b),
    "batch_norm of rows": lambda a, b: (
        F.batch_norm(line(a).mT.contiguous().mT, torch.zeros(2).to(a), torch.ones(2).to(a), b[:2]).mT.flatten(1).tanh()
    ),
    "weight_norm": lambda a, b: a @ torch._weight_norm(b[:, None] * b + torch.eye(6).to(a), b[:, None], 0),
    "spectral": lambda a, b: (
        a @ (b[:, None] + torch.eye(6).to(a)) / linalg.matrix_norm(b[:, None] + torch.eye(6).to(a), 2)
    ),
}

REDUCED = {
    "sum": lambda h: h.sum(1),
    "mean": lambda h: h.mean(1),
    "prod": lambda h: h.prod(1),
    "amax": lambda h: h.amax(1),
    "amin": lambda h: h.amin(1),
    "max": lambda h: h.max(1)[0],
    "min": lambda h: h.min(1)[0],
    "aminmax": lambda h: h.aminmax(dim=1)[0],
    "median": lambda h: h.median(1)[0],
    "nanmedian": lambda h: h.nanmedian(1)[0],
    "kthvalue": lambda h: h.kthvalue(2, 1)[0],
    "quantile": lambda h: h.quantile(0.3, 1),
    "nanquantile": lambda h: h.nanquantile(0.3, 1),
    "mode": lambda h: h.mode(1)[0],
    "var": lambda h: h.var(1),
    "std": lambda h: h.std(1),
    "var_mean": lambda h: sum(torch.var_mean(h, 1)),
    "std_mean": lambda h: sum(torch.std_mean(h, 1)),
    "logsumexp": lambda h: h.logsumexp(1),
    "nansum": lambda h: h.nansum(1),
    "nanmean": lambda h: h.nanmean(1),
    "norm": lambda h: h.norm(dim=1),
    "norm 1": lambda h: h.norm(p=1, dim=1),
    "norm inf": lambda h: linalg.vector_norm(h, float("inf"), 1),
    "norm 3": lambda h: linalg.vector_norm(h, 3, 1),
    "trapezoid": lambda h: torch.trapezoid(h, dim=1),
    "topk": lambda h: h.topk(2, 1)[0].sum(1),
    "renorm": lambda h: torch.renorm(h, 2, 0, 1.0).sum(1),
}

MOVED = {
    "sort": lambda h: h.sort(1)[0],
    "msort": lambda h: torch.msort(h.mT).mT,
    "cumsum": lambda h: h.cumsum(1),
    "cumprod": lambda h: h.cumprod(1),
    "cummax": lambda h: h.cummax(1)[0],
    "cummin": lambda h: h.cummin(1)[0],
    "logcumsumexp": lambda h: h.logcumsumexp(1),
    "cumulative_trapezoid": lambda h: torch.cumulative_trapezoid(h, dim=1),
    "diff": lambda h: h.diff(dim=1),
    "gradient": lambda h: torch.gradient(h, dim=1)[0],
    "flip": lambda h: h.flip(1),
    "roll": lambda h: h.roll(2, 1),
    "rot90": lambda h: torch.rot90(line(h), 1, (1, 2)).flatten(1),
    "gather": lambda h: h.gather(1, h.detach().argsort(1)),
    "take_along_dim": lambda h: h.take_along_dim(h.detach().argsort(1), 1),
    "scatter": lambda h: torch.zeros_like(h).scatter(1, torch.arange(6).flip(0).expand(len(h), 6), h),
    "scatter_add": lambda h: torch.zeros_like(h).scatter_add(1, torch.zeros(len(h), 6).long(), h),
    "scatter_reduce": lambda h: torch.ones_like(h).scatter_reduce(1, torch.arange(6).expand(len(h), 6), h, "prod"),
    "index_add": lambda h: torch.zeros_like(h).index_add(1, torch.tensor([0, 0, 1, 2, 3, 3]), h),
    "index_copy": lambda h: torch.zeros_like(h).index_copy(1, torch.tensor([5, 4, 3, 2, 1, 0]), h),
    "index_fill": lambda h: h.index_fill(1, torch.tensor([1]), 2.0),
    "index_put": lambda h: h.index_put((torch.arange(len(h)), torch.zeros(len(h)).long()), torch.ones(len(h)).to(h)),
    "masked_fill": lambda h: h.masked_fill(h > 0, 1.0),
    "select_scatter": lambda h: h.select_scatter(h[:, 0] ** 2, 1, 2),
    "slice_scatter": lambda h: h.slice_scatter(h[:, :2] ** 2, 1, 2, 4),
    "diagonal": lambda h: sym(h).diagonal(dim1=1, dim2=2),
    "diag_embed": lambda h: torch.diag_embed(h).flatten(1),
    "tril": lambda h: sym(h).tril().flatten(1),
    "triu": lambda h: sym(h).triu().flatten(1),
    "unfold": lambda h: h.unfold(1, 3, 2).flatten(1),
    "repeat_interleave": lambda h: h.repeat_interleave(2, 1),
    "repeat": lambda h: h.repeat(1, 2),
    "tile": lambda h: h.tile(1, 2),
    "stack": lambda h: torch.stack([h, h**2], 2).flatten(1),
    "cat": lambda h: torch.cat([h, h**2], 1),
    "chunk": lambda h: h.chunk(2, 1)[1],
    "unbind": lambda h: torch.stack(h.unbind(1)[:3], 1),
    "narrow": lambda h: h.narrow(1, 1, 3),
    "as_strided": lambda h: h.as_strided((len(h), 3), (6, 2)),
    "in place": lambda h: h.clone().mul_(2).add_(h),
    "assigned": lambda h: _assigned(h),
    "softmax": lambda h: h.softmax(1),
    "softmin": lambda h: F.softmin(h, 1),
    "log_softmax": lambda h: h.log_softmax(1),
    "normalize": lambda h: F.normalize(h),
    "clamp": lambda h: h.clamp(-0.5, 0.5),
    "threshold": lambda h: F.threshold(h, 0.1, 2.0),
    "channel_shuffle": lambda h: F.channel_shuffle(h.reshape(-1, 6, 1, 1), 2).flatten(1),
    "one_hot": lambda h: h * F.one_hot(h.detach().argmax(1), 6),
    "complex": lambda h: torch.complex(h, h**2).abs(),
    "polar": lambda h: torch.polar(1 + h * h, h).real,
    "angle": lambda h: torch.complex(1 + h * h, h).angle(),
    "view_as_real": lambda h: torch.view_as_real(torch.complex(h, h**2) ** 2).flatten(1),
    "fft": lambda h: torch.fft.fft(h).abs(),
    "rfft": lambda h: torch.fft.rfft(h).real,
    "ifft": lambda h: torch.fft.ifft(h * (1 + 0j)).real,
    "irfft": lambda h: torch.fft.irfft(torch.fft.rfft(h) ** 2),
    "fft2": lambda h: torch.fft.fft2(line(h)).abs().flatten(1),
    "dct": lambda h: torch.fft.hfft(torch.fft.rfft(h)),
    "stft": lambda h: torch.stft(h, 4, 2, window=torch.ones(4).to(h), return_complex=True).abs().add(1e-3).flatten(1),
    "checkpoint": lambda h: torch.utils.checkpoint.checkpoint(torch.tanh, h, use_reentrant=False),
    "nonzero": lambda h: h * (h[:1] == h[:1]),
}


def _assigned(h):
    out = torch.zeros_like(h)
    out[:, 2:] = h[:, :4] ** 2
    out[:, 0] = h[:, 5]
    return out


def _all():
    yield from _elementwise()
    for name, f in PAIRS.items():
        yield name, lambda h, w, f=f: f(h, w)
    for name, f in REDUCED.items():
        yield name, lambda h, w, f=f: f(h * w)[:, None]
    for name, f in MOVED.items():
        yield name, lambda h, w, f=f: f(h * w)
    for name, f in MATRICES.items():
        yield name, lambda h, w, f=f: f(sym(h * w)).reshape(len(h), -1)
    for name, f in IMAGES.items():
        yield name, lambda h, w, f=f: f(big(h * w)).flatten(1)


OPERATIONS = dict(_all())
