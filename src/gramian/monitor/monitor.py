"""`gramian.Monitor`: probes in a training loop of the user's own."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from torch import nn
from torch.optim import Optimizer

from gramian.arch.inputs import Inputs
from gramian.errors import BadArgument, GramianError
from gramian.monitor.log import Log, read_log
from gramian.monitor.measurement_schedule import MeasurementSchedule
from gramian.monitor.measuring import Measuring
from gramian.monitor.monitor_facts import facts, unwatched
from gramian.monitor.monitor_inputs import check_settings, holds_none, torch_optimizer
from gramian.monitor.monitor_warnings import CHANGE, KEPT, reason, tell
from gramian.monitor.resume import state_of, take_up
from gramian.monitor.slow_samples import Slow
from gramian.monitor.watched_run import WatchedRun
from gramian.monitor.words import sentences
from gramian.prove.proof import Proof
from gramian.report.facts import SampleFacts
from gramian.train.batch_view import unwrapped
from gramian.train.objective import Loss
from gramian.train.probes import Probe
from gramian.train.trace import Trace

T = TypeVar("T")


class Monitor:
    r"""Watches a training loop of your own, and says in words how it goes.

    Three lines: make it before the loop, print it when you like, write the report at the end. It hooks into the
    optimizer, measures on some training rows (in eval mode; nothing of the run is changed, its random numbers
    included), and takes no more than a share of the time, or one second of a run that is too short for that.

    Nothing that fails in it ends the run, here neither: one warning says in four parts what is left out. A model, a
    loss or rows that cannot be watched make a monitor that counts steps, and says why it measures nothing. Only a
    mistake in the call itself raises: what is no module, no optimizer, no loss; a setting that makes no sense.

    Args:
        module: the network that is trained, wrapped (DataParallel, DDP, torch.compile) or not. Its output has one row
            a sample, or is an object, a dict or a tuple with such a tensor (`logits`, or the first); or it is a
            language model, with logits (n, s, vocabulary), or one of images with classes for pixels: then the log-odds
            of the right class at some positions are what is looked at.
        optimizer: the torch optimizer that trains it; its steps are counted.
        loss: as the loop uses it, such as `nn.CrossEntropyLoss()`: called with outputs and targets, mean or sum; with
            all that the module returns if it takes that. None: the model's own, for models that return it as `.loss`
            when they get `labels`.
        x, y: training rows to watch, some hundreds; shapes (n, *in_shape) and what the loss takes; of a large network
            the first of them are taken. Several inputs or targets in a tuple or a dict, with None and constants among
            them; `labels` in a dict of inputs in place of y. Tokens: y of shape (n, s), -100 where there is no target.
            Rows in another precision than the module takes are cast.
        x_test, y_test: test rows; measured too.
        share: of the training time that measuring may take, beside the first measurement and the last.
        probes: "standard" (all of `gramian.train`'s that apply, and the edge of stability), names, or `Probe`s.
        rows: watched rows at most whose Gram matrix is computed; of a large network fewer are taken while it trains.
        tokens: positions of each sample of tokens or pixels that are looked at.
        classes: names of the classes, for the report.
        log: file of JSON lines, one a measurement, written at once; an existing one is continued.
        tensorboard: folder for TensorBoard.
        resume: of a run that is gone on with: `state_dict()` of its monitor; or the steps made so far, and then what
            the log says of these is taken up, and "the start" is now.

    Raises:
        BadArgument: no module, no optimizer, no loss; a setting that makes no sense.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))
        >>> x, y = torch.eye(2).to(net[0].weight.dtype), torch.tensor([[1.0], [-1.0]]).to(net[0].weight.dtype)
        >>> sgd = torch.optim.SGD(net.parameters(), lr=0.01)
        >>> monitor = Monitor(net, sgd, torch.nn.MSELoss(), x, y)  # 1
        >>> for _ in range(20):
        ...     sgd.zero_grad()
        ...     torch.nn.functional.mse_loss(net(x), y).backward()
        ...     sgd.step()
        >>> monitor.step  # print(monitor) is the second line, monitor.report("report") the third
        20
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: Optimizer,
        loss: Loss | None,
        x: Inputs,
        y: Any = None,
        *,
        x_test: Inputs | None = None,
        y_test: Any = None,
        share: float = 0.05,
        probes: str | Sequence[str | Probe] = "standard",
        rows: int = 128,
        tokens: int = 8,
        classes: Sequence[str] = (),
        log: str | Path | None = None,
        tensorboard: str | Path | None = None,
        resume: Mapping[str, Any] | int = 0,
    ) -> None:
        optimizer = torch_optimizer(optimizer)
        check_settings(module, optimizer, loss, share, rows, tokens, probes)
        self.optimizer, self.classes = optimizer, tuple(map(str, classes))
        self._schedule, self._log = MeasurementSchedule(share), Log(log, tensorboard)
        if isinstance(resume, int):
            self._count = resume
        else:
            self._count = int(resume.get("step", 0))
        self._ended = ""  # why it watches no more
        self._module, self._loss = module, loss
        self._measuring: Measuring | None = None
        self._hooks: list[Any] = []
        settings = {"probes": probes, "rows": rows, "tokens": tokens, "resume": resume}
        try:
            self._module = unwrapped(module)
            if holds_none(self._module, optimizer):
                self._tell_no_parameters()
            self._measuring = Measuring(
                self._module,
                optimizer,
                loss,
                (x, y, x_test, y_test),
                schedule=self._schedule,
                log=self._log,
                **settings,  # type: ignore[arg-type]
            )
        except Exception as error:
            self._end(error, "does not watch this run")
        self.setup_seconds = self._schedule.elapsed
        self._schedule.began += self.setup_seconds
        self._count_steps()

    @property
    def step(self) -> int:
        """Steps of the optimizer so far."""
        return self._count

    @property
    def watching(self) -> bool:
        """Whether it measures; if not, `str(monitor)` says why."""
        return self._measuring is not None and not self._ended

    @property
    def run(self) -> WatchedRun:
        """What probes see of the run."""
        assert self._measuring is not None
        return self._measuring.run

    @property
    def overhead(self) -> float:
        """Time that measuring took over the time that the rest took, since the start."""
        return self._schedule.overhead

    @property
    def trace(self) -> Trace:
        """Everything measured so far, as plain data."""
        if self._measuring is None:
            return Trace(self._config(), [], [], reason=f"after {self.step} steps, not watched")
        trace = self._measuring.trace()
        trace.config.update(self._config())
        return trace

    def answer(self) -> tuple[str, ...]:
        """Lazy or feature learning? Over the edge of stability? Which layer stopped? Which samples are slowest?

        Measures once more if the last step was not measured.
        """
        return self._answered()[0]

    def __str__(self) -> str:
        said = self.answer()
        if self._measuring is None:
            return "\n".join([f"After {self.step} steps:", *(f"  {line}" for line in said)])
        if self._ended:
            ended = f"; not watched any more: {self._ended}"
        else:
            ended = ""
        lines = [f"After {self.step} steps (measuring took {self.overhead:.1%} of the training time{ended}):"]
        return "\n".join([*lines, *(f"  {sentence}" for sentence in said)])

    def prove(self, statement: str = "minimum", **keywords: Any) -> Proof:
        """`gramian.prove` of the watched module as it is now, on all rows x, y that the monitor was given.

        It is proved on a copy, polished where the statement asks for it; the module and the run stay as they are. The
        squared loss and the cross-entropy have proofs; L1, smooth L1 and Huber losses have the minimum of the squared
        one.

        Args:
            statement: "minimum", or "descent" of the squared loss.
            keywords: lr, polished, max_bytes, news of `gramian.prove`.

        Raises:
            BadArgument: a loss that has no proof, outputs that are no row of numbers for each sample, no watched rows.
            Unsupported: a layer without a rule, by name.
        """
        from gramian.monitor.watched_proof import prove_watched

        if self._measuring is None:
            raise BadArgument(
                f"Nothing is watched that something could be proved of: {self._ended}.",
                where="Monitor.prove",
                why="the module could not be called on the rows x, y when the monitor was made",
                fix="gramian.prove(module, x, y), with rows that the module takes",
            )
        start = time.perf_counter()
        try:
            return prove_watched(self._measuring, self._loss, statement, keywords)
        finally:
            self._schedule.aside += time.perf_counter() - start

    def report(self, folder: str | Path) -> tuple[Path, Path]:
        """Writes report.html and report.json into a folder; returns their paths.

        Where they cannot be written a warning says so.
        """
        from gramian.report import write

        paths = Path(folder) / "report.html", Path(folder) / "report.json"
        said, slow = self._answered()
        start = time.perf_counter()
        try:
            if slow is None or self._measuring is None:
                shown = []
            else:
                shown = self._named(slow)
            if self._measuring is None:
                spectra = {}
            else:
                spectra = self._measuring.spectra()
            report_facts = facts(self.trace, said, spectra, self._seconds(), shown)
            paths = write(report_facts, folder)
        except Exception as error:
            tell(
                f"The report cannot be written into {folder}; the training is not touched by that.",
                where="Monitor.report(folder)",
                why=reason(error),
                fix="a folder that you may write to, with room; what was measured is kept: report() again",
            )
        self._schedule.aside += time.perf_counter() - start
        return paths

    @staticmethod
    def report_of_log(log: str | Path, folder: str | Path) -> tuple[Path, Path]:
        """The report of a run that left only its log: killed, or on another machine. Of several runs the last.

        Raises:
            BadData: the file is no monitor's log.
        """
        from gramian.report import write

        trace = read_log(log)
        seconds = {"training": float(trace.config.get("seconds", 0.0))}
        return write(facts(trace, sentences(trace, None), {}, seconds), folder)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs for `Monitor(..., resume=)`: plain data, and the weights of the start."""
        if self._measuring is None:
            return {"step": self.step}
        return {**state_of(self._measuring), "step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from `state_dict()`: the module has the weights of that step already."""
        self._count = int(state.get("step", 0))
        if self._measuring is not None:
            self._safely(partial(take_up, self._measuring, state, replaces=True), None)

    def close(self) -> None:
        """Stops watching; what was measured stays."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        if self._measuring is not None:
            self._measuring.close()
        self._log.close()

    def _count_steps(self) -> None:
        try:
            self._hooks = [
                self.optimizer.register_step_pre_hook(lambda *_: self._before()),
                self.optimizer.register_step_post_hook(lambda *_: self._after()),
            ]
        except Exception as error:  # an optimizer that is none of torch's but by name
            self._end(error, "cannot count the optimizer's steps")

    def _before(self) -> None:
        if self._measuring is not None:
            self._safely(self._measuring.before, None)

    def _after(self) -> None:
        self._count += 1
        if self._measuring is not None:
            self._safely(self._measuring.after, None)

    def _safely(self, act: Callable[[], Any], otherwise: T) -> T:
        """What fails here must not end hours of training: it is told, and the watching ends."""
        if not self.watching:
            return otherwise
        try:
            result: T = act()
        except Exception as error:
            self._end(error, f"failed at step {self.step} and is left out from here on")
            return otherwise
        return result

    def _end(self, error: Exception, what: str) -> None:
        self._ended = reason(error)
        if self._measuring is not None:
            self._measuring.skipped["the monitor"] = f"failed at step {self.step}: {self._ended}"
            self._measuring.close()
        said = f"the monitor {what}; the training goes on."
        where, why, fix = "gramian.Monitor", reason(error), CHANGE
        if self._hooks:
            fix = KEPT
        if isinstance(error, GramianError):
            said += f" {error.what}"
            where, why, fix = error.where or where, error.why or why, error.fix or fix
        tell(said, where=where, why=why, fix=fix)

    def _tell_no_parameters(self) -> None:
        tell(
            "The optimizer holds none of the module's parameters: its steps will not move what is watched.",
            where="Monitor(module, optimizer, ...)",
            why="it was made for another module, or before the module was copied, moved or wrapped",
            fix="the module whose parameters the optimizer was given; none is needed if they are added later",
        )

    def _answered(self) -> tuple[tuple[str, ...], Slow | None]:
        if self._measuring is None:
            return (f"Not watched: {self._ended}",), None
        measuring = self._measuring
        self._safely(measuring.measure_now, None)
        nothing: tuple[tuple[str, ...], Slow | None] = (), None
        said, slow = self._safely(measuring.answered, nothing)
        if not said:
            said = sentences(self.trace, None)
        return said, slow

    def _named(self, slow: Slow) -> list[SampleFacts]:
        assert self._measuring is not None
        return self._measuring.named(slow, self.classes)

    def _slow(self) -> Slow | None:
        if self._measuring is None:
            return None
        return self._safely(self._measuring.slow, None)

    def _seconds(self) -> dict[str, float]:
        times = self._schedule
        seconds = {"training": times.training, "setup": self.setup_seconds, "measuring": times.spent}
        return seconds | {"answers": times.aside}

    def _config(self) -> dict[str, Any]:
        own = {"classes": list(self.classes), "step": self.step}
        if self._measuring is not None:
            return own
        rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        more = {"overhead": self.overhead, "share": self._schedule.share, "lr": rates[0] if rates else math.nan}
        return unwatched(self._module, self.optimizer, self._ended) | own | more
