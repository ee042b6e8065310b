"""Data sets, on the scale that the theorems ask for, and the geometry of their inputs."""

from .check import check
from .columns import Column, Columns
from .dataset import Dataset, one_hot
from .geometry import Geometry, geometry
from .load import load
from .normalize import normalize_and_pad, standardize, unit_norm
from .scaling import Scaling
from .sources import Available, available
from .span import span_coordinates
from .synthetic import correlated_sphere, random_signs, with_label_noise
from .tensors import Tensors, as_tensors

__all__ = [
    "Available",
    "Column",
    "Columns",
    "Dataset",
    "Geometry",
    "Scaling",
    "Tensors",
    "as_tensors",
    "available",
    "check",
    "correlated_sphere",
    "geometry",
    "load",
    "normalize_and_pad",
    "one_hot",
    "random_signs",
    "span_coordinates",
    "standardize",
    "unit_norm",
    "with_label_noise",
]
