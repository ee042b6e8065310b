"""Probes: small measurements taken while a network trains, one subject a file. A new one is one line in `PROBES`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gramian.errors import BadArgument
from gramian.train.probes.accuracy import TestAccuracy, TrainAccuracy
from gramian.train.probes.activation_norms import ForwardNorms, Separability
from gramian.train.probes.descent import StepRemainder, UpdateError
from gramian.train.probes.distance import Distance, RelativeDistance, SpectralDistance
from gramian.train.probes.flips import SignFlips
from gramian.train.probes.gradient import GradientOverLoss, LayerGradientOverLoss, SampleGradientOverLoss
from gramian.train.probes.gram_extremes import GramMax, GramMin
from gramian.train.probes.kernel_drift import KernelAlignment, KernelCosine, KernelDrift, KernelEntryDrift
from gramian.train.probes.linearization import LinearizationGap
from gramian.train.probes.loss import TestLoss, TrainLoss
from gramian.train.probes.probe import NotApplicable, Probe, Reading
from gramian.train.probes.smoothness import SemiSmoothness

_ALL: tuple[Any, ...] = (
    TrainLoss,
    TestLoss,
    TrainAccuracy,
    TestAccuracy,
    GradientOverLoss,
    LayerGradientOverLoss,
    SampleGradientOverLoss,
    GramMin,
    GramMax,
    KernelDrift,
    KernelCosine,
    KernelAlignment,
    Distance,
    RelativeDistance,
    SpectralDistance,
    SignFlips,
    SemiSmoothness,
    LinearizationGap,
    ForwardNorms,
    Separability,
)
PROBES: dict[str, type] = {probe.name: probe for probe in _ALL}
# what only premises of theorems ask for: not in "standard", to be named
THEOREM_PROBES: dict[str, type] = {p.name: p for p in (UpdateError, StepRemainder, KernelEntryDrift)}


def choose(probes: str | Sequence[str | Probe]) -> list[Probe]:
    """The probes that "standard" (all of `PROBES`; also among others), names, or probes themselves stand for.

    Raises:
        BadArgument: an unknown name, or something that is no probe.
    """
    if probes == "standard":
        return [make() for make in PROBES.values()]
    wanted: list[str | Probe]
    if isinstance(probes, str):
        wanted = [probes]
    else:
        wanted = list(probes)
    chosen: list[Probe] = []
    for probe in wanted:
        if isinstance(probe, str) and probe == "standard":
            chosen += [make() for make in PROBES.values()]
        elif isinstance(probe, str) and probe in PROBES | THEOREM_PROBES:
            chosen.append((PROBES | THEOREM_PROBES)[probe]())
        elif isinstance(probe, Probe) and not isinstance(probe, type):
            chosen.append(probe)
        else:
            raise BadArgument(
                f"{probe!r} is no probe.",
                where="train(..., probes=...)",
                fix=f'"standard", (), or some of: {", ".join(PROBES | THEOREM_PROBES)}',
            )
    names = [probe.name for probe in chosen]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BadArgument(
            f"Two probes are named {twice!r}.", where="train(..., probes=...)", fix="give each one its name"
        )
    return chosen


__all__ = ["PROBES", "NotApplicable", "Probe", "Reading", "SemiSmoothness", "StepRemainder", "UpdateError", "choose"]
