"""What `kernel` and `fit` share: rows drawn, a network read, and as many rows as this machine can take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gramian.cli import options as opt
from gramian.cli.data_options import Draw, flattened
from gramian.cli.networks import BuiltNetwork, network, says_law_without_biases
from gramian.errors import BadArgument

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from gramian.arch.law import Law
    from gramian.data import Dataset
    from gramian.data.raw import Raw
    from gramian.network import Architecture
    from gramian.predict.cost import Cost

PATIENCE = 600.0  # seconds that a command may take where nobody said how many rows
CostOf = Callable[[int, int, int, float], "Cost"]  # training rows, test rows, numbers in a row, seconds an entry


@dataclass(frozen=True)
class NetworkOptions:
    """Which network, by which law; as on the command line."""

    net: str
    depth: int | None
    activation: str | None
    bias: bool
    law: str | None
    which: str


@dataclass(frozen=True, eq=False)
class RowsAndNetwork:
    """Rows and a network that go together.

    Args:
        data: rows in the shape of their source.
        x: training rows as the network takes them, on their device.
        network: for these rows.
        arch: its architecture.
        law: of its random weights.
        kernel: the kernel that was asked for, of two sets of rows.
        per_entry: seconds that an entry of the kernel takes here.
        notes: what is to be said, a sentence each.
    """

    data: Dataset
    x: Tensor
    network: BuiltNetwork
    arch: Architecture
    law: Law
    kernel: Callable[..., Tensor]
    per_entry: float
    notes: tuple[str, ...]

    @property
    def biases(self) -> str:
        """The network's biases, and whether they are in the kernel."""
        from gramian.network.biases import biases_in_words

        words = biases_in_words(self.arch)
        if words.startswith("none") and not self.network.own:
            return words + "; --bias adds them"
        return words


def prepared(
    raw: Raw, draw: Draw, options: NetworkOptions, cost_of: CostOf, *, dtype: torch.dtype, device: str = "cpu"
) -> RowsAndNetwork:
    """All rows, unless their number was said or is more than this machine can take in its memory and in 10 minutes.

    Raises:
        BadArgument: --n asks for more rows than fit into memory.
        BadData, NoLimit: of the data, and of the network.
    """
    from gramian.data.load import available_rows
    from gramian.predict.cost import most_rows

    there = available_rows(raw, draw.n_test)
    count = opt.number_of_rows(draw.n)
    d = int(raw.x[_first_row()].size)
    if draw.n is None:  # memory needs no measurement
        count = most_rows(lambda m: cost_of(m, 0, d, 0.0), there)
    if count == there:
        # None: all rows, and with them the whole of an official test set
        count = None
    preparation = _prepared_rows(draw.rows(raw, count), draw, options, dtype, device)
    if draw.n is None:
        m = len(preparation.data.x_test)
        most = most_rows(lambda k: cost_of(k, m, d, preparation.per_entry), len(preparation.x), seconds=PATIENCE)
        if most < len(preparation.x):
            most = max(most // 100 * 100, min(most, 100))
            preparation = _prepared_rows(draw.rows(raw, most), draw, options, dtype, device)
        if len(preparation.x) < there:
            said = _fewer(len(preparation.x), there, cost_of(there, m, d, preparation.per_entry))
            preparation = RowsAndNetwork(**{**preparation.__dict__, "notes": (*preparation.notes, said)})
    else:
        _refuse_memory(len(preparation.x), lambda k: cost_of(k, 0, d, 0.0))
    return preparation


def _first_row():
    import numpy as np

    return np.arange(1)


def _prepared_rows(
    data: Dataset, draw: Draw, options: NetworkOptions, dtype: torch.dtype, device: str
) -> RowsAndNetwork:
    from gramian.network import architecture
    from gramian.network.biases import says_homogeneous, says_uncounted
    from gramian.predict.cost import seconds_per_entry

    if draw.flatten:
        given = flattened(data)
    else:
        given = data
    net = network(
        options.net,
        given,
        depth=options.depth,
        activation=options.activation,
        bias=options.bias,
        seed=draw.seed,
    )
    law = opt.law_of(options.law, net.law) or "he"
    x = given.x.to(device, dtype)
    arch = architecture(net.module.eval(), x[:2].cpu(), law=law)
    kernel = getattr(arch, options.which)
    about = [says_uncounted(arch, law), net.says, says_law_without_biases(law, net, options.bias)]
    if net.own:
        about.append(says_homogeneous(kernel, x, "--law torch and layers with bias=True make a difference"))
    notes = [*data.notes, *filter(None, about)]
    return RowsAndNetwork(data, x, net, arch, law, kernel, seconds_per_entry(kernel, x), tuple(notes))


def _fewer(count: int, there: int, cost: Cost) -> str:
    from gramian.report.numbers import duration

    return (
        f"{count:,} of {there:,} training rows were drawn: all would take about {duration(cost.seconds)} and "
        f"{cost.memory / 2**30:.1f} GiB. --n INT takes another number."
    )


def _refuse_memory(n: int, cost: Callable[[int], Cost]) -> None:
    """Raise BadArgument if a number of rows that was asked for does not fit into memory."""
    from gramian.predict.cost import MEMORY_SHARE, free_memory, most_rows, resident_memory

    needed, free = cost(n).memory, free_memory() + resident_memory()
    if needed <= MEMORY_SHARE * free:
        return
    most = most_rows(cost, n)
    raise BadArgument(
        f"a kernel of {n:,} rows takes {needed / 2**30:.1f} GiB; {free / 2**30:.1f} GiB are free here.",
        where=f"--n {n}",
        why=f"n rows give n x n numbers, and at most {MEMORY_SHARE:.0%} of the free memory is taken.",
        fix=f"--n {max(most // 100 * 100, 1)}; `gramian kernel --out FOLDER` writes larger ones in tiles.",
    )
