"""Inputs and networks that claims of several papers share: points on the sphere, real rows of two classes."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

from gramian.claims.claim import Setting
from gramian.data import Dataset, correlated_sphere, load, random_signs, span_coordinates, unit_norm
from gramian.empirical import empirical_ntk
from gramian.gram import Eigensystem, eigensystem
from gramian.train import two_layer_relu

SPHERE = "sphere"


def unit_inputs(setting: Setting, seed: int, generator: torch.Generator, correlation: float = 0.0) -> Tensor:
    """Unit vectors: `n` in `d` dimensions, or `n` rows of the data set that `data` names, in their span."""
    if setting["data"] == SPHERE:
        return correlated_sphere(setting["n"], setting["d"], correlation, generator=generator)
    rows = load(setting["data"], n=setting["n"], n_test=0, seed=seed, normalize="none").x
    return span_coordinates(unit_norm(rows.flatten(1)))


def wide_network(
    setting: Setting, seed: int, correlation: float = 0.0
) -> tuple[nn.Module, Tensor, Tensor, Eigensystem]:
    """A two-layer network of output 0, inputs, labels of size `label`, and the spectrum of its kernel."""
    generator = torch.Generator().manual_seed(seed)
    x = unit_inputs(setting, seed, generator, correlation)
    y = setting["label"] * random_signs(len(x), 1, generator=generator)
    network = two_layer_relu(x.shape[1], setting["width"], antisymmetric=True, generator=generator)
    return network, x, y, eigensystem(empirical_ntk(network, x))


@lru_cache(maxsize=2)  # a measurement takes two sets in turn
def _all_rows(name: str) -> Dataset:
    return load(name, normalize="none")


def two_classes(
    name: str, classes: tuple[int, int], n: int, n_test: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x (n, d) of norm one, labels 1 and -1 (n,), and the same for test rows: `n` and `n_test` random rows of each."""
    data = _all_rows(name)
    parts: list[Tensor] = []
    for x, y, most in ((data.x, data.y, n), (data.x_test, data.y_test, n_test)):
        rows = ((y == classes[0]) | (y == classes[1])).nonzero().flatten()
        rows = rows[torch.randperm(len(rows), generator=generator)[:most]]
        parts += [unit_norm(x[rows].flatten(1)), torch.where(y[rows] == classes[0], 1.0, -1.0).double()]
    return parts[0], parts[1], parts[2], parts[3]
