"""A kernel from its pieces, so that a test can choose what the package chooses by itself."""

from dataclasses import replace

import torch

from gramian.empirical.contraction.memory_plan import Workload
from gramian.empirical.contraction.ntk import contracted, read
from gramian.empirical.modules.output_functions import Batch, Model


def workload(net, x, y=None, outputs="full", max_bytes=2**30):
    """The module, read on its inputs, and the workload of its kernel."""
    other = None if y is None else Batch(y)
    source, saved = read(Model(net), Batch(x), other, full=outputs == "full")
    return source, Workload.of(source, len(x), None if y is None else len(y), max_bytes, saved, by_layer=False)


def kernel(net, x, y=None, outputs="full", max_bytes=2**30, *, by="nested", **choices):
    """`empirical_ntk`, with the choices of a `Workload` and one of `WAYS` given."""
    source, load = workload(net, x, y, outputs, max_bytes)
    other = None if y is None else Batch(y)
    with torch.no_grad():
        return contracted(replace(source, way=by), replace(load, **choices), Batch(x), other, outputs)[""]
