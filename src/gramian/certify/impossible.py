"""The answer where no network of this kind can reach the minimum: equal inputs with different labels."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gramian.certify import run_facts
from gramian.certify.answer import share_words
from gramian.certify.certification import Certification
from gramian.certify.goal import IMPOSSIBLE, Goal, equal_to_the_network
from gramian.certify.prepared_data import PreparedData
from gramian.conditions import IMPLIED, TRAINING, Certificate, Condition


def impossible(data: PreparedData) -> Certification:
    """The certification of data that no network can fit; nothing is trained."""
    request, aim, pairs = data.request, data.goal, data.conflicts
    dtype, rows = request.training_dtype, request.description.row_numbers
    named = [tuple(int(i if rows is None else rows[i]) for i in pair) for pair in pairs]
    of_data = run_facts.data_facts(data)
    of_data = replace(of_data, geometry=replace(of_data.geometry, conflicts=[list(pair) for pair in named]))
    sentences = contradiction(named, aim, dtype, _apart(data.setup.x, dtype, pairs))
    premise = Condition("pairs of equal inputs with different labels", 0.0, float(len(pairs)), "<=")
    certificate = Certificate(
        "The data can be fitted", "a function has one value at one input", (premise,), (),
        summary=sentences[0], about=TRAINING,
    )  # fmt: skip
    run = run_facts.nothing_trained(
        title=request.description.name, did=IMPOSSIBLE, why=IMPLIED, answer=list(sentences),
        goal=run_facts.goal_facts(aim, None, None), loss_name=request.loss, certificates=[certificate.facts()],
        warnings=list(data.warnings), seed=request.settings.seed,
    )  # fmt: skip
    return Certification(sentences, (certificate,), IMPOSSIBLE, IMPLIED, of_data.to_dict(), run.to_dict(), None)


def _apart(x: Tensor, dtype: torch.dtype, pairs: tuple[tuple[int, int], ...]) -> bool:
    """Whether float64 tells all these rows apart, where the training's own precision does not."""
    together = {i for group in equal_to_the_network(x, torch.float64) for i in group}
    return dtype != torch.float64 and not any(i in together and j in together for i, j in pairs)


def contradiction(pairs: list[tuple[int, ...]], aim: Goal, dtype: torch.dtype, apart: bool) -> tuple[str, str, str]:
    """Three sentences on data that no network can fit."""
    i, j = pairs[0]
    others = len(pairs) - 1
    more = {0: "", 1: ", and so is one more pair"}.get(others, f", and so are {others} more pairs")
    if aim.classes:
        kind = "labels"
    else:
        kind = "targets"
    precision = str(dtype).removeprefix("torch.")
    least = share_words(aim.floor, aim)
    if aim.classes:
        what = "Every function is wrong at one of two such rows, so 100% training accuracy is out of reach"
    else:
        what = "A function has one value at both"
    return (
        f"No network can: rows {i} and {j} are the same input with different {kind}{more} (equal: all numbers are, in "
        f"{precision}, in which the network gets them).",
        f"{what}, and the training loss can't be below {least} at any learning rate or width.",
        ("In float64 these rows differ: dtype=torch.float64 asks again. " if apart else "")
        + f"Correct the {kind} or drop one row of each pair, and ask again; nothing was trained.",
    )
