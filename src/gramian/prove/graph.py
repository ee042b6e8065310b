"""The graph of one sample, by `torch.export`: what the checker's program is read from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gramian.errors import BadArgument
from gramian.network.reader.export import quiet
from gramian.network.reader.unpacked_attention import Unpacked


def exported(module: nn.Module, sample: Tensor) -> torch.export.ExportedProgram:
    """The module's graph on one sample (1, ...), in its own precision and mode.

    Raises:
        BadArgument: torch cannot trace its forward.
    """
    with quiet(), Unpacked(), torch.no_grad():
        try:
            return torch.export.export(module, (sample,), strict=False)
        except Exception as error:
            raise BadArgument(
                f"torch.export can't read the module: {(str(error).strip().splitlines() or [''])[0]}",
                where=type(module).__name__,
                why="its forward branches on the values of tensors, or calls code that torch can't trace; "
                "a proof is about one fixed formula",
                fix="a forward without branches on values",
            ) from error
