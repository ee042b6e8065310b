"""First stage of `certify`: the data, checked, scaled, cast and turned to targets once, and the network for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gramian.certify.checked_data import CheckedData, checked_data, with_scale
from gramian.certify.goal import Goal, conflicts, equal_to_the_network, goal
from gramian.certify.limit_cost import MOST_TEST_SECONDS, affordable_test_rows, check_memory, seconds_per_pair
from gramian.certify.measure import outputs
from gramian.certify.request import Request, copied
from gramian.certify.setup import Setup, says_biases, setup
from gramian.certify.study_clock import Clock
from gramian.data import Geometry, geometry, one_hot
from gramian.errors import BadArgument


@dataclass(frozen=True, eq=False)
class PreparedData:
    """Data and network of a study.

    Args:
        request: what was asked.
        checked: the data in the user's own units, float64; test rows that the limit kernel has no time for are left
            out.
        setup: the network and its limit; it has the inputs as the network takes them, float64.
        inputs, test_inputs: the same in the precision and on the device of the training.
        targets, test_targets: as the squared loss takes them, float64; shapes (n, C) and (m, C).
        geometry: of the training rows as they were given.
        conflicts: pairs of rows that are equal to the network and have different targets.
        goal: what counts as the global minimum.
        seconds_per_pair: time of one entry of the limit kernel; 0 without a limit.
        warnings: sentences for the report.
    """

    request: Request
    checked: CheckedData
    setup: Setup
    inputs: Tensor
    test_inputs: Tensor
    targets: Tensor
    test_targets: Tensor
    geometry: Geometry
    conflicts: tuple[tuple[int, int], ...]
    goal: Goal
    seconds_per_pair: float
    warnings: tuple[str, ...]

    @property
    def impossible(self) -> bool:
        """Whether no network can reach the goal, because equal rows have different targets."""
        return bool(self.conflicts) and (self.goal.classes or self.goal.floor > self.goal.target)

    @property
    def n_outputs(self) -> int:
        """Outputs of the network."""
        return self.targets.shape[1]

    @property
    def has_test(self) -> bool:
        """Whether there are test rows."""
        return len(self.test_inputs) > 0

    @property
    def has_classes(self) -> bool:
        """Whether the targets are class numbers."""
        return self.checked.y.dtype == torch.int64

    @property
    def kernel_is_costly(self) -> bool:
        """Whether another limit kernel of all training rows would take long."""
        return self.seconds_per_pair * len(self.inputs) ** 2 / 2 > MOST_TEST_SECONDS

    @property
    def separation(self) -> float:
        """Smallest distance of two inputs, each scaled to norm one, as the network takes them."""
        if self.setup.paper:
            return geometry(self.setup.x).separation
        return self.geometry.separation

    def training_targets(self, *, test: bool = False) -> Tensor:
        """What `train` takes: class numbers, or real targets as they are trained on."""
        if self.has_classes:
            if test:
                return self.checked.y_test
            return self.checked.y
        return (self.test_targets if test else self.targets).to(self.inputs)


def prepare(request: Request, x: Any, y: Any, x_test: Any, y_test: Any, clock: Clock) -> PreparedData:
    """The prepared data.

    Raises:
        BadData: numbers that can't be used.
        NoLimit: an architecture without a limit here that was to be drawn anew.
        BadArgument: a last layer for other targets; more rows than the limit kernel has memory for.
    """
    rows = request.description.row_numbers
    checked = checked_data(x, y, x_test, y_test, rows=rows, classes=request.description.classes, loss=request.loss)
    checked = with_scale(checked, request.targets, request.parametrization, request.loss)
    module = request.module
    if request.network_kind == "own" and not request.in_place:
        module = copied(module)
    dtype, device = request.training_dtype, request.training_device
    with clock("limit kernel"):
        network = setup(
            module, checked.x, checked.x_test, request.law, request.network_kind, dtype, device,
            in_place=request.in_place,
        )  # fmt: skip
    shape = geometry(checked.x, checked.y, rows=rows)
    inputs = network.x.to(device, dtype)
    targets, test_targets = _targets(checked, _n_outputs(network, inputs))
    equal_rows = equal_to_the_network(network.x, dtype)
    data = PreparedData(
        request=request,
        checked=checked,
        setup=network,
        inputs=inputs,
        test_inputs=network.x_test.to(device, dtype),
        targets=targets,
        test_targets=test_targets,
        geometry=shape,
        conflicts=tuple(conflicts(equal_rows, checked.y)),
        goal=goal(targets, checked.y, request.loss, request.accuracy, dtype, equal_rows),
        seconds_per_pair=0.0,
        warnings=(*request.description.notes, *checked.notes),
    )
    if data.impossible:
        return data
    data = replace(data, warnings=(*data.warnings, *_warnings(request, network, module, len(equal_rows))))
    return _within_the_kernel_s_cost(data, clock)


def _within_the_kernel_s_cost(data: PreparedData, clock: Clock) -> PreparedData:
    """The same with what an entry of the limit kernel costs, and with as many test rows as that leaves time for."""
    network = data.setup
    if network.kernel is None:
        return data
    said = check_memory(len(network.x))
    if said:
        clock.say(said)
    with clock("limit kernel"):
        per_pair = seconds_per_pair(partial(network.kernel, 1), network.x)
    seed = data.request.settings.seed
    keep, note = affordable_test_rows(len(network.x), len(network.x_test), per_pair, seed)
    data = replace(data, seconds_per_pair=per_pair)
    if keep is None:
        return data
    return replace(_with_test_rows(data, keep), warnings=(*data.warnings, note))


def _with_test_rows(data: PreparedData, keep: Tensor) -> PreparedData:
    """The same with these test rows alone."""
    checked, network = data.checked, data.setup
    return replace(
        data,
        checked=replace(checked, x_test=checked.x_test[keep], y_test=checked.y_test[keep]),
        setup=replace(network, x_test=network.x_test[keep]),
        test_inputs=data.test_inputs[keep.to(data.test_inputs.device)],
        test_targets=data.test_targets[keep],
    )


def _n_outputs(network: Setup, inputs: Tensor) -> int:
    """Outputs of the network; one without a limit is asked."""
    if network.arch is not None:
        return network.arch.n_outputs
    return outputs(network.build(network.own_width, 0), inputs[:2]).shape[1]


def _targets(checked: CheckedData, n_outputs: int) -> tuple[Tensor, Tensor]:
    """Targets of the training and the test rows as the squared loss takes them: centered one-hot rows for classes."""
    if checked.y.dtype != torch.int64:
        targets, test_targets = checked.as_trained(checked.y), checked.as_trained(checked.y_test)
    else:
        # a class that the network has no output for gets its column, and the check below says so
        n_columns = [max(n_outputs, int(y.max()) + 1 if len(y) else 0) for y in (checked.y, checked.y_test)]
        targets, test_targets = one_hot(checked.y, n_columns[0]), one_hot(checked.y_test, n_columns[1])
    if targets.shape[1] == n_outputs:
        return targets, test_targets
    fix = f"a last layer with {targets.shape[1]} outputs"
    if not checked.y.is_floating_point():
        fix += ", one a class; or y as floats, for a quantity or signs 1 and -1"
    raise BadArgument(
        f"The network has {n_outputs} outputs for targets of shape {tuple(targets.shape)}.",
        where="certify(module, x, y)",
        why="its last layer was made for another number of classes or targets",
        fix=fix,
    )


def _warnings(request: Request, network: Setup, module: Any, n_groups: int) -> list[str]:
    """Sentences on the rows and the network that the reader of a report should know."""
    said = []
    if n_groups:
        said.append(f"{n_groups} group(s) of equal rows: the Gram matrix is singular.")
    if network.no_limit:
        said.append("No limit kernel. " + network.no_limit.splitlines()[0])
    if network.arch is not None and not network.paper:
        about_biases = says_biases(module, network.arch, request.law, request.network_kind)
        if about_biases:
            said.append(about_biases)
    return said
