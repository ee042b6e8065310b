"""The monitor as a callback of Lightning and of Hugging Face's Trainer; neither is imported before it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gramian.arch.inputs import Inputs
from gramian.certify.monitor.monitor import Monitor
from gramian.errors import BadArgument
from gramian.train.objective import Loss


class _Callback:
    """What both callbacks share: the settings of a `Monitor`, made when training begins."""

    monitor: Monitor | None = None

    def __init__(
        self, loss: Loss | None, x: Inputs, y: Tensor | None, *, report: str | Path | None = None, **settings: Any
    ) -> None:
        self._settings, self._loss, self._data, self._report = settings, loss, (x, y), report

    def _begin(self, module: nn.Module, optimizer: Any) -> None:
        optimizer = getattr(optimizer, "optimizer", optimizer)  # accelerate's wrapper holds torch's
        x, y = self._data
        self.monitor = Monitor(module, optimizer, self._loss, x, y, **self._settings)

    def _end(self) -> None:
        if self.monitor is None:
            return
        if self._report is not None:
            self.monitor.report(self._report)
        self.monitor.close()


def LightningMonitor(loss: Loss | None, x: Inputs, y: Tensor | None = None, **settings: Any) -> Any:
    """A callback for `lightning.Trainer(callbacks=[...])` that watches the first optimizer, on the first process.

    Args:
        loss, x, y: as for `Monitor`; the LightningModule is called as `module(x)`.
        settings: of `Monitor`; and `report=FOLDER`, written when training ends, by an exception too.

    The callback's `.monitor` is the `Monitor`, once training has begun.
    """
    Callback = _base("lightning.pytorch", "pytorch_lightning", name="Callback", package="lightning")

    class Watching(_Callback, Callback):  # type: ignore[misc, valid-type]
        def on_train_start(self, trainer: Any, module: nn.Module) -> None:
            if trainer.is_global_zero:
                self._begin(module, trainer.optimizers[0])

        def on_train_end(self, trainer: Any, module: nn.Module) -> None:
            self._end()

        def on_exception(self, trainer: Any, module: nn.Module, exception: BaseException) -> None:
            self._end()

    return Watching(loss, x, y, **settings)


def TrainerMonitor(loss: Loss | None, x: Inputs, y: Tensor | None = None, **settings: Any) -> Any:
    """A callback for `transformers.Trainer(callbacks=[...])`, on the first process.

    `TrainerMonitor(None, batch)` watches a batch as the data collator makes it, a dict with `labels`, with the model's
    own loss; causal language models shift their labels themselves.

    Args:
        loss, x, y: as for `Monitor`; the model is called as `model(x)`, or `model(**x)` for a dict, for its logits.
        settings: of `Monitor`; and `report=FOLDER`, written when training ends.

    The callback's `.monitor` is the `Monitor`, once training has begun.
    """
    Base = _base("transformers", name="TrainerCallback", package="transformers")

    class Watching(_Callback, Base):  # type: ignore[misc, valid-type]
        def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            if state is None or state.is_world_process_zero:
                self._begin(given["model"], given["optimizer"])

        def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            self._end()

    return Watching(loss, x, y, **settings)


def _base(*modules: str, name: str, package: str) -> Any:
    import importlib

    for module in modules:
        try:
            return getattr(importlib.import_module(module), name)
        except ImportError:
            continue
    raise BadArgument(
        f"{package} is not installed.",
        where="the monitor's callback",
        why="it is no dependency of gramian",
        fix=f"pip install {package}",
    )
