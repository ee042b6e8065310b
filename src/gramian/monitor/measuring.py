"""The measurements of a monitor: what applies, is due, is read, is said. What fails here raises."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gramian.errors import BadArgument
from gramian.monitor.edge_probe import EdgeOfStability
from gramian.monitor.log import Log
from gramian.monitor.losses import modules_in
from gramian.monitor.measurement_schedule import MeasurementSchedule, kind_of
from gramian.monitor.monitor_facts import about
from gramian.monitor.monitor_warnings import tell_failed
from gramian.monitor.resume import recorded, take_up
from gramian.monitor.rows_a_step import RowsOfSteps
from gramian.monitor.samples import named
from gramian.monitor.slow_samples import Slow, slow_rows
from gramian.monitor.undisturbed import undisturbed
from gramian.monitor.watched import watched
from gramian.monitor.words import sentences
from gramian.report.facts import SampleFacts
from gramian.train.forward import statistics_of
from gramian.train.probes import NotApplicable, Probe, Reading, choose
from gramian.train.probes.probe import Value
from gramian.train.recorder import Recorder
from gramian.train.trace import Trace


class Measuring:
    """What is measured of a module on some rows while an optimizer trains it.

    Attributes:
        run: what probes see.
        skipped: probes that are left out, with the reason.
        step, since: steps of the optimizer; and the step whose weights are those of the start.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: Optimizer,
        loss: Any,
        data: tuple[Any, Any, Any, Any],
        *,
        probes: str | Sequence[str | Probe],
        rows: int,
        tokens: int,
        schedule: MeasurementSchedule,
        log: Log,
        resume: Mapping[str, Any] | int = 0,
    ) -> None:
        self.module, self._optimizer, self._others = module, optimizer, modules_in(loss)
        self.schedule, self.log, self.skipped = schedule, log, dict[str, str]()
        self.since, self._failed = 0, list[tuple[str, Exception]]()
        with self.undisturbed():
            self.seen = watched(module, loss, data[0], data[1], (data[2], data[3]), rows, tokens)
            self.run = self.seen.run
            self.run.loss()  # what has no loss is not watched at all
        self._own = about(module, self.seen)
        self._steps = RowsOfSteps()
        if self.seen.kind == "sum":
            self._steps.on(module)
        self.record, self._gram_values = Recorder(), dict[str, Tensor]()
        self._found_slow: tuple[int, Slow] | None = None
        self._broken: int | None = None  # the step before which the gradient was not finite
        self._witness = min(self.run.parameters().values(), key=Tensor.numel, default=None)
        self.run.lr = self.lr
        self.largest_lr = self.run.lr
        self._edge = EdgeOfStability(
            optimizer, self.seen.module, self.seen.x, self.seen.loss, self.seen.kind, lambda: self._steps.rows
        )
        self.buffers = {name: t.detach().clone() for name, t in module.named_buffers()}
        self._chosen = self._choose(probes)
        if isinstance(resume, Mapping):
            take_up(self, resume)
        else:
            self._begin(resume)

    def _begin(self, step: int) -> None:
        """The start is now, after `step` steps that were made before."""
        self.since = step
        self.run.at(step)
        more: dict[str, Any] = {}
        if step:
            self.record = recorded(self.log.lines, step)
            more = {"resumed": {"since": step}}
        self.start()
        self._due = set(self.schedule.costs)
        self.measure(more={"run": self.config(), **more})

    @property
    def step(self) -> int:
        """Steps so far."""
        return self.run.step

    @property
    def lr(self) -> float:
        """Learning rate of the first group that moves."""
        rates = [float(group["lr"]) for group in self._optimizer.param_groups]
        return next((rate for rate in rates if rate), 0.0)

    def _choose(self, probes: str | Sequence[str | Probe]) -> list[Probe]:
        chosen = choose(probes)
        if probes == "standard":
            self.skipped |= self.seen.left_out
            return [*(p for p in chosen if p.name not in self.seen.left_out), self._edge]
        return chosen

    def start(self) -> None:
        """Probes at the weights of the start; what does not apply or fails there is left out."""
        failed = self._failed
        self._probes: list[Probe] = []
        with self.undisturbed():
            self.run.gram_is_due = True
            for probe in self._chosen:
                try:
                    with self._statistics(probe.cost):
                        probe.start(self.run)
                except NotApplicable as error:
                    self.skipped[probe.name] = (str(error).splitlines() or [""])[0]
                except Exception as error:
                    failed.append((probe.name, error))
                else:
                    self._probes.append(probe)
            try:
                self._first = self.run.slope()[self.seen.slow_rows].double()
            except Exception as error:
                failed.append(("slowest samples", error))

    def leave_out(self) -> None:
        """What failed is told once and measured no more."""
        failed, self._failed = self._failed, []
        for name, error in failed:
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            self.skipped[name] = f"failed at step {self.step}: {said}"
        if failed:
            tell_failed(failed, self.step)

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """The module in eval mode, and all of the run as it was afterwards."""
        counting = getattr(self, "_steps", None)
        if counting is not None:
            counting.counting = False
        try:
            with undisturbed(self.module, self._others):
                yield
        finally:
            if counting is not None:
                counting.counting = True

    def _statistics(self, kind: str) -> AbstractContextManager[None]:
        """Kernels are those of batch normalization with the watched rows' statistics, at the start and now."""
        if kind == "gram":
            return statistics_of(self.run.module, self.run.x_rows)
        return nullcontext()

    def before(self) -> None:
        """Before a step: decide whether to measure after it."""
        if self._broken is None and not self._finite():
            self._broken = self.step
        self._due = self.schedule.due(self.step + 1)
        for probe in self._probes:
            kind = kind_of(probe.name, probe.cost)
            if kind in self._due and hasattr(probe, "before") and probe.name not in self.skipped:
                start = time.perf_counter()
                try:
                    with self.undisturbed():
                        probe.before(self.run)
                except Exception as error:
                    self._failed.append((probe.name, error))
                self.schedule.spent_on[kind] += time.perf_counter() - start
        self.leave_out()

    def after(self) -> None:
        """After a step."""
        self.run.at(self.step + 1)
        self.run.lr = self.lr
        self.largest_lr = max(self.largest_lr, self.run.lr)
        self._steps.step()
        if self._due:
            for kind in self.measure():
                self.schedule.spent_on[kind] += self.schedule.costs[kind]

    def measure_now(self) -> None:
        """For an answer: whatever was not measured at this step."""
        self._due = {kind for kind, step in self.schedule.measured.items() if step < self.step}
        self.run.lr = self.lr  # a schedule may have gone on since
        if self._due:
            start = time.perf_counter()
            self.measure()
            self.schedule.aside += time.perf_counter() - start

    def measure(self, more: dict[str, Any] | None = None) -> set[str]:
        """What is due, at this step: the probes' readings into the record and the log. Returns what was."""
        self._same_parameters()
        values: dict[str, Value] = {}
        self.run.gram_is_due = "gram" in self._due
        with self.undisturbed():
            for kind in (kind for kind in self.schedule.costs if kind in self._due):
                start = time.perf_counter()
                lost = kind == "gram" and not math.isfinite(self.run.loss())  # kernels of such weights say nothing
                able = [p for p in self._probes if not lost and p.name not in self.skipped]
                try:
                    with self._statistics(kind):
                        for probe in (p for p in able if kind_of(p.name, p.cost) == kind):
                            self._read(probe, values)
                        if kind == "quick":
                            self._loss()
                        elif kind == "gram" and "gram_min" not in self.skipped and not lost:
                            self._spectrum()
                finally:
                    self.schedule.took(kind, self.step, time.perf_counter() - start)
        self.log.add(self.step, self.schedule.elapsed, values, more or {})
        done, self._due = self._due, set()
        self.leave_out()
        return done

    def _loss(self) -> None:
        value = self.run.loss() / self.seen.units.get("loss", 1)
        self.record.loss(self.step, value)
        if math.isfinite(value):
            self._broken = None

    def _spectrum(self) -> None:
        try:
            self._gram_values["final"] = self.run.gram_eigenvalues()
        except Exception as error:
            if "gram_min" not in (name for name, _ in self._failed):
                self._failed.append(("gram_min", error))
        else:
            self._gram_values.setdefault("initial", self._gram_values["final"])

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
            with self.record.timed(probe.name):
                reading = probe.measure(self.run)
        except Exception as error:
            self._failed.append((probe.name, error))
            return
        units = self.seen.units
        if probe.name in units and isinstance(reading, float):  # as the user's loss is, a mean
            reading /= units[probe.name]
        if reading is not None:
            self.record.add(self.step, probe.name, reading)
            if isinstance(reading, Reading):
                values[probe.name] = reading.value
            else:
                values[probe.name] = reading

    def _finite(self) -> bool:
        """Whether the smallest gradient is: a loss that is not finite spoils all. On a GPU it would cost a wait."""
        if self._witness is None:
            grad = None
        else:
            grad = self._witness.grad
        if grad is None or grad.device.type != "cpu" or grad.layout is not torch.strided:
            return True
        return bool(grad.isfinite().all())

    def answered(self) -> tuple[tuple[str, ...], Slow | None]:
        """The sentences, and the slowest samples by the watched rows' numbers."""
        slow = self.slow()
        named = slow
        if slow is not None:
            named = replace(slow, rows=tuple(int(self.seen.numbers[row]) for row in slow.rows))
        return sentences(self.trace(), named), slow

    def named(self, slow: Slow, classes: Sequence[str]) -> list[SampleFacts]:
        """The slowest samples as a reader knows them."""
        with self.undisturbed():
            return named(self.seen, slow, classes)

    def slow(self) -> Slow | None:
        """The slowest samples at this step; None where they are not known."""
        without = {"gram_min", "slowest samples"} & set(self.skipped)
        if without or self.step == self.since or not math.isfinite(self._lasting_loss()):
            return None
        if self._found_slow is None or self._found_slow[0] != self.step:
            start = time.perf_counter()
            with self.undisturbed(), statistics_of(self.run.module, self.run.train.x[self.seen.slow_rows]):
                self._found_slow = self.step, slow_rows(self.run, self.seen.slow_rows, self._first)
            self.schedule.aside += time.perf_counter() - start
        return self._found_slow[1]

    def _lasting_loss(self) -> float:
        with self.undisturbed():
            return self.run.loss()

    def trace(self) -> Trace:
        """Everything measured so far."""
        return self.record.trace(self.config(), self._probes, reason=f"after {self.step} steps")

    def spectra(self) -> dict[str, Tensor]:
        """Eigenvalues of the Gram matrix, "initial" and "final"."""
        return self._gram_values

    def close(self) -> None:
        """Takes its hook off the module."""
        self._steps.off()

    def config(self) -> dict[str, Any]:
        """What the log says of the run."""
        return {
            **self._own,
            "optimizer": type(self._optimizer).__name__,
            "adaptive": self._edge.adaptive,
            "unseen": self._edge.unseen,
            "step_rows": self._steps.rows,
            "lr": self.run.lr,
            "largest_lr": self.largest_lr,
            "step": self.step,
            "since": self.since,
            "overhead": self.schedule.overhead,
            "share": self.schedule.share,
            "skipped": {**self.skipped, **({"edge": self._edge.why} if self._edge.why else {})},
            "broken": self._broken,
            "titles": {probe.name: [probe.title, probe.unit] for probe in self._probes},
        }
