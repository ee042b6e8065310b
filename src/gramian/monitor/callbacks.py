"""The monitor as a callback of Lightning and of Hugging Face's Trainer; neither is imported before it is used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gramian.arch.inputs import Inputs
from gramian.errors import BadArgument
from gramian.monitor.monitor import Monitor
from gramian.monitor.monitor_warnings import tell
from gramian.train.objective import Loss

STATE_FILE = "gramian_monitor.pt"  # beside the weights in a checkpoint of Hugging Face's Trainer


class _Callback:
    """What both callbacks share: the settings of a `Monitor`, made when training begins; nothing here ends a run."""

    monitor: Monitor | None = None

    def __init__(
        self, loss: Loss | None, x: Inputs, y: Tensor | None, *, report: str | Path | None = None, **settings: Any
    ) -> None:
        self._settings, self._loss, self._data, self._report = settings, loss, (x, y), report
        self._state: dict[str, Any] | None = None  # of the run that is gone on with
        self._warned = False

    def _safely(self, what: str, action: Callable[[], None]) -> None:
        """Does something; where it fails, one warning says what, and the training goes on."""
        try:
            action()
        except Exception as error:
            if not self._warned:
                self._warned = True
                tell(
                    f"The monitor failed {what}: {error}",
                    where=f"{type(self).__name__}, a callback of gramian",
                    why=f"{type(error).__name__}; the training goes on without it",
                    fix="gramian.Monitor in a loop of your own shows the same error by itself",
                )

    def _begin(self, module: nn.Module, optimizer: Any, steps: int = 0) -> None:
        """Makes the monitor; after `steps` steps of a run that is gone on with, from its state if there is one."""
        optimizer = getattr(optimizer, "optimizer", optimizer)  # accelerate's wrapper holds torch's
        x, y = self._data
        resume: Any = self._state if self._state is not None else steps
        settings = {"resume": resume, **self._settings}
        self.monitor = Monitor(module, optimizer, self._loss, x, y, **settings)

    def _finish(self) -> None:
        if self.monitor is None:
            return
        try:
            if self._report is not None:
                self.monitor.report(self._report)
        finally:
            self.monitor.close()

    def _end(self) -> None:
        self._safely("at the end of the training", self._finish)


def LightningMonitor(loss: Loss | None, x: Inputs, y: Tensor | None = None, **settings: Any) -> Any:
    """A callback for `lightning.Trainer(callbacks=[...])` that watches the first optimizer, on the first process.

    Args:
        loss, x, y: as for `Monitor`; the LightningModule is called as `module(x)`.
        settings: of `Monitor`; and `report=FOLDER`, written when training ends, by an exception too.

    The callback's `.monitor` is the `Monitor`, once training has begun. Its state is part of Lightning's checkpoints: a
    run that is resumed, `trainer.fit(..., ckpt_path=)`, goes on with its steps.
    """
    Callback = _base("lightning.pytorch", "pytorch_lightning", name="Callback", package="lightning")

    class Watching(_Callback, Callback):  # type: ignore[misc, valid-type]
        def on_train_start(self, trainer: Any, module: nn.Module) -> None:
            if trainer.is_global_zero:
                steps = int(getattr(trainer, "global_step", 0) or 0)
                self._safely("at the start", lambda: self._begin(module, trainer.optimizers[0], steps))

        def state_dict(self) -> dict[str, Any]:
            saved: dict[str, Any] = {}
            monitor = self.monitor
            if monitor is not None:
                self._safely("when it was saved", lambda: saved.update(monitor.state_dict()))
            return saved

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self._state = state_dict or None

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

    The callback's `.monitor` is the `Monitor`, once training has begun. Its state lies in each checkpoint, as
    `gramian_monitor.pt`: a run that is resumed, `trainer.train(resume_from_checkpoint=)`, goes on with its steps.
    """
    Base = _base("transformers", name="TrainerCallback", package="transformers")

    class Watching(_Callback, Base):  # type: ignore[misc, valid-type]
        def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            if state is None or state.is_world_process_zero:
                self._safely("at the start", lambda: self._take_up(args, state, given["model"], given["optimizer"]))

        def _take_up(self, args: Any, state: Any, model: nn.Module, optimizer: Any) -> None:
            steps = int(getattr(state, "global_step", 0) or 0)
            if steps:
                file = _checkpoint(args, steps) / STATE_FILE
            else:
                file = None
            if file is not None and file.exists():
                self._state = torch.load(file, weights_only=True)
            self._begin(model, optimizer, steps)

        def on_save(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            monitor = self.monitor
            if monitor is None or not state.is_world_process_zero:
                return
            folder = _checkpoint(args, state.global_step)
            if folder.is_dir():
                self._safely("when it was saved", lambda: torch.save(monitor.state_dict(), folder / STATE_FILE))

        def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            self._end()

    return Watching(loss, x, y, **settings)


def _checkpoint(args: Any, steps: int) -> Path:
    """The folder in which Trainer keeps the checkpoint of a step."""
    return Path(args.output_dir) / f"checkpoint-{steps}"


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
