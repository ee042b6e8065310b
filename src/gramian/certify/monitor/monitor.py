"""`gramian.Monitor`: probes in a training loop of the user's own."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gramian.certify.monitor.edge import EdgeOfStability, as_sum
from gramian.certify.monitor.facts import facts
from gramian.certify.monitor.log import Log
from gramian.certify.monitor.slow import Slow, slope, slow_rows
from gramian.certify.monitor.words import sentences
from gramian.errors import BadArgument
from gramian.train.forward import evaluating
from gramian.train.objective import Loss, samples
from gramian.train.probes import NotApplicable, Probe, Reading, choose
from gramian.train.probes.probe import Value
from gramian.train.recorder import Recorder
from gramian.train.run import Run
from gramian.train.trace import Trace

APART = {"cheap": 1.05, "gram": 1.4}  # least ratio of two measured steps
AT_FIRST = 1.0  # seconds that may be spent before the share of the time is as much: the first steps tell most


class Monitor:
    r"""Watches a training loop of your own, and says in words how it goes.

    Three lines: make it before the loop, print it when you like, write the report at the end. It hooks into the
    optimizer, measures on some training rows (in eval mode; nothing of the run is changed, its random numbers
    included), and takes no more than a share of the time, or one second of a run that is too short for that.

    Args:
        module: the network that is trained; its output has one row a sample.
        optimizer: the torch optimizer that trains it; its steps are counted.
        loss: as the loop uses it, such as `nn.CrossEntropyLoss()`: called with outputs and targets, mean or sum.
        x, y: training rows to watch, some hundreds; shapes (n, *in_shape) and what the loss takes.
        x_test, y_test: test rows; measured too.
        share: of the training time that measuring may take, beside the first measurement and the last.
        probes: "standard" (all of `gramian.train`'s that apply, and the edge of stability), names, or `Probe`s.
        rows: watched rows at most whose Gram matrix is computed.
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
        loss: Loss,
        x: Tensor,
        y: Tensor,
        *,
        x_test: Tensor | None = None,
        y_test: Tensor | None = None,
        share: float = 0.05,
        probes: str | Sequence[str | Probe] = "standard",
        rows: int = 128,
        log: str | Path | None = None,
        tensorboard: str | Path | None = None,
    ) -> None:
        _check(module, optimizer, share, rows)
        self.optimizer, self.share = optimizer, share
        self._began = time.perf_counter()
        with evaluating(module):
            goal = as_sum(loss, module, x, y)
        data = samples(module, x, y, goal)
        test = None if x_test is None or y_test is None else samples(module, x_test, y_test, goal, name="_test")
        self.run = Run(module, data, test, goal, torch.arange(min(rows, len(data)), device=data.x.device))
        self.run.lr = float(optimizer.param_groups[0]["lr"])
        self._log = Log(log, tensorboard)
        self._record, self._skipped = Recorder(), dict[str, str]()
        self._probes: list[Probe] = []
        self._due: set[str] = set()
        self._costs = {"cheap": 0.0, "gram": 0.0}
        self._measured = {"cheap": 0, "gram": 0}
        self._spent_on = {"cheap": 0.0, "gram": 0.0}
        self._report_seconds = 0.0
        self._start(probes, EdgeOfStability(optimizer, goal.function if isinstance(loss, str) else _flat(loss)))
        self.setup_seconds = time.perf_counter() - self._began
        self._began += self.setup_seconds
        self._hooks = [
            optimizer.register_step_pre_hook(lambda *_: self._before()),
            optimizer.register_step_post_hook(lambda *_: self._after()),
        ]

    @property
    def step(self) -> int:
        """Steps of the optimizer so far."""
        return self.run.step

    @property
    def overhead(self) -> float:
        """Time that measuring took over the time that the rest took, since the start."""
        rest = time.perf_counter() - self._began - self._spent - self._report_seconds
        return self._spent / rest if rest > 0 else 0.0

    @property
    def _spent(self) -> float:
        return sum(self._spent_on.values())

    @property
    def trace(self) -> Trace:
        """Everything measured so far, as plain data."""
        return self._record.trace(self._config(), self._probes, reason=f"after {self.step} steps")

    def answer(self) -> tuple[str, ...]:
        """Lazy or feature learning? Over the edge of stability? Which layer stopped? Which samples are slowest?

        Measures once more if the last step was not measured.
        """
        self._measure_now()
        return sentences(self.trace, self._slow())

    def __str__(self) -> str:
        lines = [f"After {self.step} steps (measuring took {self.overhead:.1%} of the training time):"]
        return "\n".join([*lines, *(f"  {sentence}" for sentence in self.answer())])

    def report(self, folder: str | Path) -> tuple[Path, Path]:
        """Writes report.html and report.json into a folder; returns their paths."""
        from gramian.report import write

        said = self.answer()
        return write(facts(self.run, self.trace, said, self._gram_values, self._seconds()), folder)

    def close(self) -> None:
        """Stops watching; what was measured stays."""
        for hook in self._hooks:
            hook.remove()

    def _start(self, probes: str | Sequence[str | Probe], edge: EdgeOfStability) -> None:
        standard = probes == "standard"
        chosen: list[Probe] = [*choose(probes), edge] if standard else choose(probes)
        self._gram_values: dict[str, Tensor] = {}
        with self._undisturbed():
            for probe in chosen:
                try:
                    probe.start(self.run)
                except (NotApplicable, BadArgument) as error:
                    self._skipped[probe.name] = str(error).splitlines()[0]
                else:
                    self._probes.append(probe)
            self._first = slope(self.run)
        self._due = {"cheap", "gram"}
        self._measure()

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """The module in eval mode, and the run's random numbers as they were."""
        device = self.run.train.x.device
        with evaluating(self.run.module), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield

    def _before(self) -> None:
        """Before a step: decide whether to measure after it."""
        elapsed = time.perf_counter() - self._began - self._report_seconds
        self._due = set()
        rest = elapsed - self._spent
        each = max(self.share * rest, min(AT_FIRST, 0.3 * math.sqrt(rest))) / 2  # half for either kind
        for kind, cost in self._costs.items():
            apart = self.step + 1 >= max(APART[kind] * self._measured[kind], self._measured[kind] + 1)
            if apart and self._spent_on[kind] + cost <= each:
                self._due.add(kind)
        for probe in self._probes:
            if probe.cost in self._due and hasattr(probe, "before"):
                start = time.perf_counter()
                with self._undisturbed():
                    probe.before(self.run)
                self._spent_on[probe.cost] += time.perf_counter() - start

    def _after(self) -> None:
        self.run.at(self.step + 1)
        self.run.lr = float(self.optimizer.param_groups[0]["lr"])
        if self._due:
            for kind in self._measure():
                self._spent_on[kind] += self._costs[kind]

    def _measure_now(self) -> None:
        """For an answer: whatever was not measured at this step."""
        self._due = {kind for kind in ("cheap", "gram") if self._measured[kind] < self.step}
        if self._due:
            start = time.perf_counter()
            self._measure()
            self._report_seconds += time.perf_counter() - start

    def _measure(self) -> set[str]:
        """What is due, at this step: the probes' readings into the record and the log. Returns what was."""
        values: dict[str, Value] = {}
        self.run.gram_is_due = "gram" in self._due
        with self._undisturbed():
            for kind in ("cheap", "gram"):
                if kind not in self._due:
                    continue
                start = time.perf_counter()
                for probe in (p for p in self._probes if p.cost == kind):
                    with self._record.timed(probe.name):
                        reading = probe.measure(self.run)
                    if reading is not None:
                        self._record.add(self.step, probe.name, reading)
                        values[probe.name] = reading.value if isinstance(reading, Reading) else reading
                if kind == "cheap":
                    self._record.loss(self.step, self.run.loss())
                elif "gram_min" not in self._skipped:
                    self._gram_values["final"] = self.run.gram_eigenvalues()
                    self._gram_values.setdefault("initial", self._gram_values["final"])
                self._costs[kind] = time.perf_counter() - start
                self._measured[kind] = self.step
        self._log.add(self.step, time.perf_counter() - self._began, values)
        done, self._due = self._due, set()
        return done

    def _slow(self) -> Slow | None:
        if "gram_min" in self._skipped or not self.step:
            return None
        with self._undisturbed():
            return slow_rows(self.run, self._first)

    def _seconds(self) -> dict[str, float]:
        rest = time.perf_counter() - self._began - self._spent - self._report_seconds
        return {"training": rest, "setup": self.setup_seconds, "measuring": self._spent, "report": self._report_seconds}

    def _config(self) -> dict[str, Any]:
        data = self.run.train
        return {
            "loss": self.run.objective.name,
            "optimizer": type(self.optimizer).__name__,
            "lr": self.run.lr,
            "n_train": len(data),
            "gram_rows": len(self.run.rows),
            "module": type(self.run.module).__name__,
            "dtype": str(data.x.dtype).removeprefix("torch."),
            "device": str(data.x.device),
            "torch": torch.__version__,
            "overhead": self.overhead,
            "skipped": dict(self._skipped),
        }


def _flat(loss: Any) -> Any:
    """The user's loss on outputs of one row a sample."""
    return lambda outputs, targets: loss(outputs.reshape(len(outputs), -1), targets)


def _check(module: nn.Module, optimizer: Optimizer, share: float, rows: int) -> None:
    if not isinstance(optimizer, Optimizer):
        raise BadArgument(
            f"The optimizer is a {type(optimizer).__name__}.",
            where="Monitor(module, optimizer, loss, x, y)",
            why="the monitor counts the steps of a torch optimizer",
            fix="torch.optim.SGD(module.parameters(), lr=0.1)",
        )
    if not 0 < share <= 1 or not isinstance(rows, int) or rows < 1:
        raise BadArgument(
            f"share={share!r}, rows={rows!r} make no sense.",
            where="Monitor(..., share=, rows=)",
            fix="share=0.05 is 5 % of the time; rows a whole number, 1 or more",
        )
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not any(id(p) in held for p in module.parameters()):
        raise BadArgument(
            "The optimizer holds none of the module's parameters.",
            where="Monitor(module, optimizer, ...)",
            why="it was made for another module, or before the module was moved or wrapped",
            fix="the module whose parameters the optimizer was given",
        )
