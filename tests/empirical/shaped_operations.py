"""Operations of matrices, of images and of sequences, for `operations.py`."""

import torch
import torch.nn.functional as F
from torch import linalg


def sym(h):
    """A positive matrix of each sample, 2 x 2, from its 6 numbers."""
    m = h.reshape(-1, 2, 3)
    return m @ m.mT + torch.eye(2, dtype=h.dtype)


def ones(a):
    return torch.ones(len(a), 2, 1, dtype=a.dtype)


def big(h):
    """(n, 2, 4, 4)"""
    return torch.cat([h, h.sin(), h.cos(), h.tanh(), h.sigmoid(), h * h / 2], 1)[:, :32].reshape(-1, 2, 4, 4)


MATRICES = {
    "linalg.det": lambda a: linalg.det(a),
    "linalg.slogdet": lambda a: linalg.slogdet(a)[1],
    "logdet": torch.logdet,
    "linalg.inv": linalg.inv,
    "linalg.inv_ex": lambda a: linalg.inv_ex(a)[0],
    "linalg.pinv": linalg.pinv,
    "linalg.solve": lambda a: linalg.solve(a, ones(a)),
    "linalg.solve of both": lambda a: linalg.solve(a, a @ ones(a) ** 2 * a),
    "linalg.solve right": lambda a: linalg.solve(a, ones(a).mT, left=False),
    "linalg.solve_triangular": lambda a: linalg.solve_triangular(a.tril(), ones(a), upper=False),
    "linalg.lu_factor": lambda a: linalg.lu_factor(a)[0],
    "linalg.lu": lambda a: linalg.lu(a)[1] @ linalg.lu(a)[2] ** 2,
    "lu_solve": lambda a: linalg.lu_solve(*linalg.lu_factor(a), ones(a)),
    "linalg.cholesky": linalg.cholesky,
    "linalg.cholesky_ex": lambda a: linalg.cholesky_ex(a)[0],
    "cholesky_solve": lambda a: torch.cholesky_solve(ones(a), linalg.cholesky(a)),
    "cholesky_inverse": lambda a: torch.cholesky_inverse(linalg.cholesky(a)),
    "linalg.qr": lambda a: linalg.qr(a)[1],
    "linalg.eigh": lambda a: linalg.eigh(a)[0],
    "linalg.eigh vectors": lambda a: linalg.eigh(a)[1] ** 2,
    "linalg.eigvalsh": linalg.eigvalsh,
    "linalg.eigvals": lambda a: linalg.eigvals(a).real.sort()[0],
    "linalg.svd": lambda a: linalg.svd(a)[1],
    "linalg.svdvals": linalg.svdvals,
    "svd vectors": lambda a: linalg.svd(a)[0] ** 2,
    "linalg.matrix_norm": linalg.matrix_norm,
    "nuclear": lambda a: linalg.matrix_norm(a, "nuc"),
    "spectral norm": lambda a: linalg.matrix_norm(a, 2),
    "linalg.cond": linalg.cond,
    "linalg.matrix_power": lambda a: linalg.matrix_power(a, 3),
    "matrix_exp": lambda a: torch.matrix_exp(a / 4),
    "linalg.multi_dot": lambda a: torch.stack([linalg.multi_dot([m, m, m]) for m in a]),
    "linalg.lstsq": lambda a: linalg.lstsq(a, ones(a)).solution,
    "linalg.ldl": lambda a: linalg.ldl_factor(a)[0],
    "linalg.householder": lambda a: linalg.householder_product(a, a[:, 0]),
    "linalg.tensorinv": lambda a: torch.stack([linalg.tensorinv(m[:, None] * 1.0, ind=1) for m in a]),
    "trace": lambda a: a.diagonal(dim1=1, dim2=2).sum(1),
    "cdist": lambda a: torch.cdist(a, a.flip(1) + 1),
    "cdist 1": lambda a: torch.cdist(a, a.flip(1) + 1, p=1),
    "cdist 3": lambda a: torch.cdist(a, a.flip(1) + 1, p=3),
    "cdist mm": lambda a: torch.cdist(a, a.flip(1) + 1, compute_mode="use_mm_for_euclid_dist"),
    "linalg.vander": lambda a: linalg.vander(a[:, 0]),
    "linalg.cross": lambda a: linalg.cross(torch.cat([a, a[:, :1]], 1), a.new_ones(len(a), 3, 2), dim=1),
    "cov": lambda a: torch.stack([torch.cov(m) for m in a]),
    "attention": lambda a: F.scaled_dot_product_attention(a[:, None], a[:, None] ** 2, a[:, None]),
    "causal attention": lambda a: F.scaled_dot_product_attention(a[:, None], a[:, None], a[:, None], is_causal=True),
    "pdist": lambda a: torch.stack([F.pdist(m) for m in a]),
}

IMAGES = {
    "avg_pool2d": lambda t: F.avg_pool2d(t, 2),
    "max_pool2d": lambda t: F.max_pool2d(t, 2),
    "lp_pool2d": lambda t: F.lp_pool2d(t.abs() + 0.1, 2, 2),
    "adaptive_avg": lambda t: F.adaptive_avg_pool2d(t, 3),
    "adaptive_max": lambda t: F.adaptive_max_pool2d(t, 3),
    "max_unpool": lambda t: F.max_unpool2d(*F.max_pool2d(t, 2, return_indices=True), 2),
    "max_pool1d": lambda t: F.max_pool1d(t.flatten(2), 2),
    "avg_pool1d": lambda t: F.avg_pool1d(t.flatten(2), 2),
    "max_pool3d": lambda t: F.max_pool3d(t[:, None], 2),
    "avg_pool3d": lambda t: F.avg_pool3d(t[:, None], 2),
    "nearest": lambda t: F.interpolate(t, scale_factor=2),
    "bilinear resize": lambda t: F.interpolate(t, size=(3, 5), mode="bilinear"),
    "bicubic": lambda t: F.interpolate(t, size=(3, 5), mode="bicubic"),
    "area": lambda t: F.interpolate(t, size=(3, 3), mode="area"),
    "antialias": lambda t: F.interpolate(t, size=(3, 3), mode="bilinear", antialias=True),
    "linear resize": lambda t: F.interpolate(t.flatten(2), size=5, mode="linear"),
    "trilinear": lambda t: F.interpolate(t[:, None], size=(3, 3, 3), mode="trilinear"),
    "reflect": lambda t: F.pad(t, (1, 1, 1, 1), "reflect"),
    "replicate": lambda t: F.pad(t, (1, 1, 1, 1), "replicate"),
    "circular": lambda t: F.pad(t, (1, 1, 1, 1), "circular"),
    "constant pad": lambda t: F.pad(t, (1, 0, 0, 2)),
    "pixel_shuffle": lambda t: F.pixel_shuffle(torch.cat([t, t], 1), 2),
    "pixel_unshuffle": lambda t: F.pixel_unshuffle(t, 2),
    "F.unfold": lambda t: F.unfold(t, 2),
    "F.fold": lambda t: F.fold(F.unfold(t, 2), (4, 4), 2),
    "grid_sample": lambda t: F.grid_sample(t, t.permute(0, 2, 3, 1).tanh() * 0.9, align_corners=False),
    "nearest grid": lambda t: F.grid_sample(
        t, t.permute(0, 2, 3, 1).tanh().detach(), mode="nearest", align_corners=False
    ),
    "affine_grid": lambda t: F.affine_grid(t[:, 0, :2, :3], [len(t), 1, 2, 2], align_corners=False),
    "instance_norm 2d": lambda t: F.instance_norm(t),
    "group_norm 2d": lambda t: F.group_norm(t, 2),
    "rnn": lambda t: _recurrent(t),
}


def _recurrent(t):
    s = t.flatten(2)
    weights = [torch.full(size, 0.3, dtype=t.dtype) for size in ((8, 16), (8, 2), (8,), (8,))]
    zero = t.new_zeros(1, len(t), 2)
    return torch.lstm(s, (zero, zero), weights, True, 1, 0.0, False, False, True)[0]
