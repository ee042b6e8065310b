"""`gramian.Monitor`: probes in a training loop of the user's own."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gramian.arch.inputs import Inputs
from gramian.certify.monitor.edge import EdgeOfStability
from gramian.certify.monitor.facts import about, facts
from gramian.certify.monitor.given import check_settings
from gramian.certify.monitor.log import Log, read_log
from gramian.certify.monitor.samples import named
from gramian.certify.monitor.schedule import Schedule, kind_of
from gramian.certify.monitor.slow import Slow, slope, slow_rows
from gramian.certify.monitor.watched import watched
from gramian.certify.monitor.words import sentences
from gramian.errors import BadArgument, message
from gramian.train.forward import evaluating, statistics_of
from gramian.train.objective import Loss
from gramian.train.probes import NotApplicable, Probe, Reading, choose
from gramian.train.probes.probe import Value
from gramian.train.recorder import Recorder
from gramian.train.trace import Trace
from gramian.train.view import unwrapped


class Monitor:
    r"""Watches a training loop of your own, and says in words how it goes.

    Three lines: make it before the loop, print it when you like, write the report at the end. It hooks into the
    optimizer, measures on some training rows (in eval mode; nothing of the run is changed, its random numbers
    included), and takes no more than a share of the time, or one second of a run that is too short for that. What goes
    wrong while it measures is told in a warning and never stops the run.

    Args:
        module: the network that is trained, wrapped (DataParallel, DDP, torch.compile) or not. Its output has one row
            a sample, or is an object or a dict with such `logits`; or it is a language model, with logits (n, s,
            vocabulary): then the log-odds of the right token at some positions are what is looked at.
        optimizer: the torch optimizer that trains it; its steps are counted.
        loss: as the loop uses it, such as `nn.CrossEntropyLoss()`: called with outputs and targets, mean or sum. None:
            the model's own, for models that return it as `.loss` when they get `labels`.
        x, y: training rows to watch, some hundreds; shapes (n, *in_shape) and what the loss takes; of a large network
            the first of them are taken. Several inputs in a tuple or a dict, which may hold `labels` in place of y.
            Tokens: y of shape (n, s), -100 where there is no target.
        x_test, y_test: test rows; measured too.
        share: of the training time that measuring may take, beside the first measurement and the last.
        probes: "standard" (all of `gramian.train`'s that apply, and the edge of stability), names, or `Probe`s.
        rows: watched rows at most whose Gram matrix is computed; of a large network fewer are taken while it trains.
        tokens: positions of each sample of tokens that are looked at.
        classes: names of the classes, for the report.
        log: file of JSON lines, one a measurement, written at once; an existing one is continued.
        tensorboard: folder for TensorBoard.

    Raises:
        BadData: rows that cannot be measured on.
        BadArgument: a setting that makes no sense; a log that cannot be written.

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
        y: Tensor | None = None,
        *,
        x_test: Inputs | None = None,
        y_test: Tensor | None = None,
        share: float = 0.05,
        probes: str | Sequence[str | Probe] = "standard",
        rows: int = 128,
        tokens: int = 8,
        classes: Sequence[str] = (),
        log: str | Path | None = None,
        tensorboard: str | Path | None = None,
    ) -> None:
        module = unwrapped(module)
        check_settings(module, optimizer, share, rows, tokens)
        self.optimizer, self.classes = optimizer, tuple(map(str, classes))
        self._schedule = Schedule(share)
        seen = watched(module, loss, x, y, (x_test, y_test), rows, tokens)
        self.run, self._units, self._slow_rows = seen.run, seen.units, seen.slow_rows
        self._found_slow: tuple[int, Slow] | None = None
        self.run.lr = float(optimizer.param_groups[0]["lr"])
        self._largest_lr = self.run.lr
        self._about = about(module, seen)
        self._log = Log(log, tensorboard)
        self._record, self._skipped = Recorder(), dict[str, str]()
        self._probes: list[Probe] = []
        self._due: set[str] = set()
        self._witness = min(self.run.parameters().values(), key=Tensor.numel)
        self._broken: int | None = None  # the step before which the gradient was not finite
        self._watching = True
        edge = EdgeOfStability(optimizer, seen.module, seen.x, seen.y, seen.loss)
        self._start(probes, edge, seen.too_long)
        self.setup_seconds = self._schedule.elapsed
        self._schedule.began += self.setup_seconds
        self._hooks = [
            optimizer.register_step_pre_hook(lambda *_: self._unharmed(self._before)),
            optimizer.register_step_post_hook(lambda *_: self._unharmed(self._after)),
        ]

    @property
    def step(self) -> int:
        """Steps of the optimizer so far."""
        return self.run.step

    @property
    def overhead(self) -> float:
        """Time that measuring took over the time that the rest took, since the start."""
        return self._schedule.overhead

    @property
    def trace(self) -> Trace:
        """Everything measured so far, as plain data."""
        return self._record.trace(self._config(), self._probes, reason=f"after {self.step} steps")

    def answer(self) -> tuple[str, ...]:
        """Lazy or feature learning? Over the edge of stability? Which layer stopped? Which samples are slowest?

        Measures once more if the last step was not measured.
        """
        return self._answered()[0]

    def __str__(self) -> str:
        lines = [f"After {self.step} steps (measuring took {self.overhead:.1%} of the training time):"]
        return "\n".join([*lines, *(f"  {sentence}" for sentence in self.answer())])

    def report(self, folder: str | Path) -> tuple[Path, Path]:
        """Writes report.html and report.json into a folder; returns their paths."""
        from gramian.report import write

        said, slow = self._answered()
        start = time.perf_counter()
        shown = [] if slow is None else self._named(slow)
        made = write(facts(self.trace, said, self._gram_values, self._seconds(), shown), folder)
        self._schedule.aside += time.perf_counter() - start
        return made

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

    def close(self) -> None:
        """Stops watching; what was measured stays."""
        for hook in self._hooks:
            hook.remove()
        self._log.close()

    def _start(self, probes: str | Sequence[str | Probe], edge: EdgeOfStability, too_long: dict[str, str]) -> None:
        chosen = choose(probes)
        if probes == "standard":
            chosen = [*(p for p in chosen if p.name not in too_long), edge]
            self._skipped |= too_long
        self._gram_values: dict[str, Tensor] = {}
        with self._undisturbed():
            for probe in chosen:
                try:
                    with self._statistics(probe.cost):
                        probe.start(self.run)
                except (NotApplicable, BadArgument) as error:
                    self._skipped[probe.name] = str(error).splitlines()[0]
                else:
                    self._probes.append(probe)
            self._first = slope(self.run, self._slow_rows)
        self._due = set(self._schedule.costs)
        self._measure()

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """The module in eval mode, and the run's random numbers as they were."""
        device = self.run.train.x.device
        with (
            evaluating(self.run.module),
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
            torch.autocast(device.type, enabled=False),
        ):
            yield

    def _statistics(self, kind: str) -> AbstractContextManager[None]:
        """Kernels are those of batch normalization with the watched rows' statistics, at the start and now."""
        return statistics_of(self.run.module, self.run.x_rows) if kind == "gram" else nullcontext()

    def _unharmed(self, act: Callable[[], None]) -> None:
        """What fails here must not end hours of training: it is told, and the watching ends."""
        if not self._watching:
            return
        try:
            act()
        except Exception as error:
            self._watching, self._due = False, set()
            self._stop("the monitor", error)

    def _stop(self, what: str, error: Exception) -> None:
        said = (str(error).strip().splitlines() or [""])[0]
        self._skipped[what] = f"failed at step {self.step}: {said}"
        warnings.warn(
            message(
                f"{what} failed at step {self.step} and is left out from here on; the training goes on.",
                where="gramian.Monitor",
                why=f"{type(error).__name__}: {said}",
                fix=getattr(error, "fix", "") or "what was measured before is kept; the error tells what to change",
            ),
            RuntimeWarning,
            stacklevel=2,
        )

    def _before(self) -> None:
        """Before a step: decide whether to measure after it."""
        if self._broken is None and not self._finite():
            self._broken = self.step
        self._due = self._schedule.due(self.step + 1)
        for probe in self._probes:
            kind = kind_of(probe.name, probe.cost)
            if kind in self._due and hasattr(probe, "before"):
                start = time.perf_counter()
                with self._undisturbed():
                    probe.before(self.run)
                self._schedule.spent_on[kind] += time.perf_counter() - start

    def _after(self) -> None:
        self.run.at(self.step + 1)
        self.run.lr = float(self.optimizer.param_groups[0]["lr"])
        self._largest_lr = max(self._largest_lr, self.run.lr)
        if self._due:
            for kind in self._measure():
                self._schedule.spent_on[kind] += self._schedule.costs[kind]

    def _measure_now(self) -> None:
        """For an answer: whatever was not measured at this step."""
        self._due = {kind for kind, step in self._schedule.measured.items() if step < self.step}
        self.run.lr = float(self.optimizer.param_groups[0]["lr"])  # a schedule may have gone on since
        if self._due and self._watching:
            start = time.perf_counter()
            self._measure()
            self._schedule.aside += time.perf_counter() - start

    def _measure(self) -> set[str]:
        """What is due, at this step: the probes' readings into the record and the log. Returns what was."""
        self._same_parameters()
        values: dict[str, Value] = {}
        self.run.gram_is_due = "gram" in self._due
        with self._undisturbed():
            for kind in (kind for kind in self._schedule.costs if kind in self._due):
                start = time.perf_counter()
                lost = kind == "gram" and not math.isfinite(self.run.loss())  # kernels of such weights say nothing
                able = [p for p in self._probes if not lost and p.name not in self._skipped]
                wanted = [p for p in able if kind_of(p.name, p.cost) == kind]
                with self._statistics(kind):
                    for probe in wanted:
                        self._read(probe, values)
                    if kind == "quick":
                        self._record.loss(self.step, self.run.loss() / self._units.get("loss", 1))
                    elif kind == "gram" and "gram_min" not in self._skipped and not lost:
                        self._gram_values["final"] = self.run.gram_eigenvalues()
                        self._gram_values.setdefault("initial", self._gram_values["final"])
                self._schedule.took(kind, self.step, time.perf_counter() - start)
        first = {"run": self._config()} if not self.step else {}
        self._log.add(self.step, self._schedule.elapsed, values, first)
        done, self._due = self._due, set()
        return done

    def _same_parameters(self) -> None:
        now = set(self.run.parameters())
        if now != set(self.run.initial):
            changed = ", ".join(sorted(now ^ set(self.run.initial))[:3])
            raise BadArgument(
                f"other parameters are trained than at the start: {changed}.",
                fix="a new Monitor after layers are frozen or unfrozen",
            )

    def _read(self, probe: Probe, values: dict[str, Value]) -> None:
        """One probe into the record; one that fails is left out from then on."""
        try:
            with self._record.timed(probe.name):
                reading = probe.measure(self.run)
        except Exception as error:
            self._stop(probe.name, error)
            return
        if probe.name in self._units and isinstance(reading, float):  # as the user's loss is, a mean
            reading /= self._units[probe.name]
        if reading is not None:
            self._record.add(self.step, probe.name, reading)
            values[probe.name] = reading.value if isinstance(reading, Reading) else reading

    def _finite(self) -> bool:
        """Whether the smallest gradient is: a loss that is not finite spoils all. On a GPU it would cost a wait."""
        grad = self._witness.grad
        return grad is None or grad.device.type != "cpu" or bool(grad.isfinite().all())

    def _answered(self) -> tuple[tuple[str, ...], Slow | None]:
        self._measure_now()
        slow = self._slow()
        return sentences(self.trace, slow), slow

    def _named(self, slow: Slow) -> list[dict[str, Any]]:
        with self._undisturbed():
            return named(self.run, slow, self.classes, tokens=bool(self._about["positions"]))

    def _slow(self) -> Slow | None:
        lost = not math.isfinite(self.run.loss())
        if "gram_min" in self._skipped or not self.step or not self._watching or lost:
            return None
        if self._found_slow is None or self._found_slow[0] != self.step:
            start = time.perf_counter()
            with self._undisturbed(), statistics_of(self.run.module, self.run.train.x[self._slow_rows]):
                self._found_slow = self.step, slow_rows(self.run, self._slow_rows, self._first)
            self._schedule.aside += time.perf_counter() - start
        return self._found_slow[1]

    def _seconds(self) -> dict[str, float]:
        times = self._schedule
        seconds = {"training": times.training, "setup": self.setup_seconds, "measuring": times.spent}
        return seconds | {"answers": times.aside}

    def _config(self) -> dict[str, Any]:
        return {
            **self._about,
            "optimizer": type(self.optimizer).__name__,
            "lr": self.run.lr,
            "largest_lr": self._largest_lr,
            "overhead": self.overhead,
            "share": self._schedule.share,
            "classes": list(self.classes),
            "skipped": dict(self._skipped),
            "broken": self._broken,
            "titles": {probe.name: [probe.title, probe.unit] for probe in self._probes},
        }
