"""The loop of a run: measure, keep, step, and know when to stop."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gramian.empirical.modules.arguments import Samples as Rows
from gramian.empirical.modules.arguments import tensors_of as tensors_in
from gramian.errors import BadArgument
from gramian.timing import Stopwatch
from gramian.train.batches import Batches
from gramian.train.checkpoint import (
    Checkpoint,
    fingerprint,
    load_optimizer,
    load_tensors,
    optimizer_tensors,
    tensors_of,
)
from gramian.train.ctrl_c import CtrlC
from gramian.train.forward import evaluating, outputs_as_trained
from gramian.train.learning_rate import LearningRate, choose_lr, lambda_max, why_diverged
from gramian.train.probes import NotApplicable, Probe
from gramian.train.recorder import Recorder
from gramian.train.run import Run, sum_over_parts
from gramian.train.schedule import gram_steps, measured_steps
from gramian.train.settings import RunOptions, Settings
from gramian.train.trace import Trace
from gramian.train.training_progress import Bar

DIVERGED_LOSS_RATIO = 1e6  # times the first loss


class Loop:
    """One run of `train`. At the top of a step the network is measured and kept; then it moves."""

    def __init__(
        self,
        run: Run,
        settings: Settings,
        options: RunOptions,
        batches: Batches,
        path: str | Path | None,
        interrupt: CtrlC,
        bar: Bar,
    ) -> None:
        self.run, self.settings, self.options, self.batches, self.path = run, settings, options, batches, path
        self.interrupt, self.bar = interrupt, bar
        self.full_batch = batches.size >= batches.n
        assert settings.steps is not None
        self.n_steps = settings.steps
        self.schedule = measured_steps(self.n_steps, options.every)
        self.gram_steps = gram_steps(self.schedule)
        self.record = Recorder()
        self.probes: list[Probe] = []
        self.skipped: dict[str, str] = {}
        self.accuracy: float | None = None
        self.step = 0

    def begin(self, probes: list[Probe], kept: Checkpoint | None, *, standard: bool) -> None:
        """Learning rate, optimizer and probes at the initialization; then on to the checkpoint, if there is one."""
        if self.path is not None:
            self.identity = {**self._identity(), "probes": [probe.name for probe in probes]}
        else:
            self.identity = {}
        if kept is not None:
            kept.check(self.identity, str(self.path), self.n_steps)
            load_tensors(self.run.module, {**kept.tensors["now"], **kept.tensors["initial"]})
            self.run.initial = {name: p.detach().clone() for name, p in self.run.parameters().items()}
        self.initial = {name: t.detach().clone() for name, t in tensors_of(self.run.module).items()}
        with self.record.timed("learning rate"):
            if kept:
                self.lr = LearningRate(**kept.trace.config["learning_rate"])
            else:
                self.lr = self._choose_lr()
        self.run.lr, self.run.asks_after_each_step = self.lr.value, True
        self.optimizer = self.settings.torch_optimizer(self.run.parameters().values(), self.lr.value)
        with evaluating(self.run.module):
            for probe in probes:
                self._start(probe, standard)
        if kept is not None:
            self._restore(kept)
            self.run.at(self.step)

    def steps(self) -> Trace:
        """All the steps, and how they ended."""
        end = {"interrupted": False, "diverged": False, "reason": ""}
        while not end["reason"]:
            if self.interrupt.asked and self.step < self.n_steps:
                self._keep()
                end |= {"interrupted": True, "reason": f"interrupted by Ctrl-C after {self.step} steps"}
                break
            if self.step in self.schedule:
                if self.step not in self.record.measured:
                    self._measure(gram=self.step in self.gram_steps)
                    self._keep()
                if reason := self._goal():
                    end["reason"] = reason
                    if self.full_batch:
                        self._loss_after_the_last_step()
                    break
            if self.step == self.n_steps:
                end["reason"] = f"all {self.step} steps done"
                loss = 0.0
                if self.full_batch:
                    loss = self._loss_after_the_last_step()
                if self.probes and self.step:
                    # nan counts as the largest: comparisons with it are all false, and max alone could pass it over
                    loss = max(loss, self._loss_in_evaluation(), key=lambda v: (math.isnan(v), v))
                if self._diverged(loss):  # in the very last step
                    end |= {"diverged": True, "reason": self._why_diverged(loss)}
                break
            loss = self._forward()
            if self._diverged(loss):
                end |= {"diverged": True, "reason": self._why_diverged(loss)}
            elif self._loss_alone and loss <= self._loss_alone and self._loss_in_evaluation() <= self._loss_alone:
                end["reason"] = f"the loss {loss:.3g} reached stop_loss={self._loss_alone:g} at step {self.step}"
            else:
                self._move(loss)
        over = end["interrupted"] or end["diverged"]
        if self.step not in self.record.measured:
            self._measure(gram=not over)
        elif not over and self.step not in self.gram_steps:  # a goal reached between two Gram matrices: the last one
            self._measure(gram=True, cheap=False)
        self.optimizer.zero_grad(set_to_none=True)
        return self.record.trace(self._config(), self.probes, **end)

    def _choose_lr(self) -> LearningRate:
        with evaluating(self.run.module):
            return choose_lr(self.run, self.settings, self.batches)

    def _start(self, probe: Probe, standard: bool) -> None:
        try:
            self._timed(probe.name, partial(probe.start, self.run))
        except (NotApplicable, BadArgument) as error:  # BadArgument: a module that has no Gram matrix
            reason = str(error).splitlines()[0]
            if not standard:
                raise BadArgument(
                    f"The probe {probe.name!r} has nothing to measure in this run.",
                    where="train(..., probes=...)",
                    why=reason,
                    fix='leave it out, or probes="standard", which leaves out what does not apply',
                ) from None
            self.skipped[probe.name] = reason
        else:
            self.probes.append(probe)

    def _timed(self, name: str, ask: Callable[[], Any]) -> Any:
        """`ask()`, its time added to that of `name`, that of shared Gram matrices to "gram"."""
        shared, watch = self.run.shared_seconds, Stopwatch()
        try:
            return ask()
        finally:
            shared = self.run.shared_seconds - shared
            self.record.spend(name, watch.seconds - shared)
            if shared:
                self.record.spend("gram", shared)

    def _forward(self, *, gradient: bool = True) -> float:
        """Loss of this step's samples, scaled to all of them; the gradients lie in `.grad` then."""
        with self.record.timed("training"), torch.set_grad_enabled(gradient):
            x, targets, scale = self._samples()
            self.optimizer.zero_grad(set_to_none=True)
            total = 0.0
            for part in sum_over_parts(self.run.objective, self.run.module, x, targets, outputs_as_trained):
                if gradient:
                    (part * scale).backward()
                total += float(part.detach()) * scale
        self.record.loss(self.step, total)
        return total

    def _loss_after_the_last_step(self) -> float:
        """The loss that the next step would have started from; what a forward pass keeps, such as batch normalization
        its running statistics, is as the last step left it."""
        kept = {name: t.detach().clone() for name, t in self.run.module.named_buffers()}
        loss = self._forward(gradient=False)
        there = dict(self.run.module.named_buffers())
        load_tensors(self.run.module, {name: t for name, t in kept.items() if name in there})
        return loss

    def _samples(self) -> tuple[Rows, Tensor, float]:
        """Inputs and targets of this step and the factor n/|S|."""
        data = self.run.train
        if self.full_batch:
            return data.x, data.targets, 1.0
        rows = self.batches.next().to(data.x.device)
        return data.x[rows], data.targets[rows], len(data) / len(rows)

    def _move(self, loss: float) -> None:
        """The optimizer's step; probes that look at the step itself see where it starts."""
        probes = [p for p in self.probes if hasattr(p, "before") and self._looks_at_step(p)]
        if probes:
            with evaluating(self.run.module):
                for probe in probes:
                    self._timed(probe.name, partial(probe.before, self.run))
        with self.record.timed("training"):
            self.optimizer.step()
        self.step += 1
        self.run.at(self.step)
        each = [p for p in self.probes if p.cost == "step"]
        if each:
            with evaluating(self.run.module):
                for probe in each:
                    reading = self._timed(probe.name, partial(probe.measure, self.run))
                    if reading is not None:
                        self.record.add(self.step, probe.name, reading)
        self.bar.show(self.step, loss, self.accuracy)

    def _looks_at_step(self, probe: Probe) -> bool:
        """Whether a probe wants to see the coming step."""
        if probe.cost == "step":
            return True
        return self.step + 1 in self.schedule and (probe.cost == "cheap" or self.step + 1 in self.gram_steps)

    def _measure(self, *, gram: bool, cheap: bool = True) -> None:
        """Ask the probes: the cheap ones, and the expensive ones."""
        self.run.gram_is_due = gram
        self.record.measured.add(self.step)
        with evaluating(self.run.module):
            if self.probes and self._diverged(self.run.loss()):
                # nothing else of such a network is a number; the next forward pass ends the run
                return
            for probe in self.probes:
                if probe.cost == "step" or (probe.cost == "gram" and not gram):
                    continue
                if probe.cost != "gram" and not cheap:
                    continue
                reading = self._timed(probe.name, partial(probe.measure, self.run))
                if reading is not None:
                    self.record.add(self.step, probe.name, reading)
            if self.bar.shown:
                labeled = self.run.train.labels is not None
                if labeled:
                    self.accuracy = self._accuracy()
                else:
                    self.accuracy = None
                self.bar.show(self.step, self.run.loss(), self.accuracy)

    def _accuracy(self) -> float:
        return float(self.run.train.correct(self.run.train_outputs()).double().mean())

    def _diverged(self, loss: float) -> bool:
        if self.record.losses:
            first = self.record.losses[0]
        else:
            first = 0.0
        # a first loss of 0 is no scale: then only what is not finite has diverged
        return not math.isfinite(loss) or loss > DIVERGED_LOSS_RATIO * (first or math.inf)

    @property
    def _loss_alone(self) -> float | None:
        """The loss at which to stop, where that can be told at every step and nothing else is asked for."""
        alone = self.full_batch and self.options.stop_accuracy is None
        if alone:
            return self.options.stop_loss
        return None

    def _loss_in_evaluation(self) -> float:
        """The loss as it is measured: dropout and batch normalization make that of a step another one."""
        with evaluating(self.run.module):
            return self.run.loss()

    def _goal(self) -> str:
        """Why a run whose goals are all reached at a measured step ends; "" if one of them is not, or none is set."""
        stop_loss, stop_accuracy = self.options.stop_loss, self.options.stop_accuracy
        if stop_loss is None and stop_accuracy is None:
            return ""
        reached = []
        with evaluating(self.run.module):
            if stop_loss is not None:
                if self.run.loss() > stop_loss:
                    return ""
                reached.append(f"the loss {self.run.loss():.3g} reached stop_loss={stop_loss:g}")
            if stop_accuracy is not None:
                share = self._accuracy()
                if share < stop_accuracy:
                    return ""
                reached.append(f"the accuracy {share:.1%} reached stop_accuracy={stop_accuracy:g}")
        return " and ".join(reached) + f" at step {self.step}"

    def _why_diverged(self, loss: float) -> str:
        lam = self.lr.lambda_max
        if lam is None and self.step and self.settings.optimizer != "adam":
            now = {name: t.detach().clone() for name, t in tensors_of(self.run.module).items()}
            load_tensors(self.run.module, self.initial)
            lam = lambda_max(self.run, self.batches)
            load_tensors(self.run.module, now)
        return why_diverged(self.settings, self.lr.value, lam, self.step, self.record.losses[0], loss)

    def _keep(self) -> None:
        """Write the checkpoint, if one is asked for."""
        if self.path is None:
            return
        with self.record.timed("checkpoint"):
            trainable = self.run.parameters()
            buffers = dict(self.run.module.named_buffers())
            tensors = {
                "now": tensors_of(self.run.module),
                "initial": {name: t for name, t in self.initial.items() if name in trainable or name in buffers},
                "optimizer": optimizer_tensors(self.optimizer),
                "batches": self.batches.state(),
                "random": self._random(),
            }
            trace = self.record.trace(self._config(), self.probes, reason="unfinished")
            Checkpoint(self.step, tensors, self.identity, trace).write(self.path)

    def _random(self) -> dict[str, Tensor]:
        device = self.run.train.x.device
        if device.type == "cuda":
            on_device = {"cuda": torch.cuda.get_rng_state(device)}
        else:
            on_device = {}
        return {"cpu": torch.get_rng_state(), **on_device}

    def _restore(self, kept: Checkpoint) -> None:
        load_tensors(self.run.module, kept.tensors["now"])
        load_optimizer(self.optimizer, kept.tensors.get("optimizer", {}))
        self.batches.load(kept.tensors["batches"])
        torch.set_rng_state(kept.tensors["random"]["cpu"])
        if "cuda" in kept.tensors["random"]:
            torch.cuda.set_rng_state(kept.tensors["random"]["cuda"], self.run.train.x.device)
        self.record.load(kept.trace)
        self.step = kept.step

    def _identity(self) -> dict[str, Any]:
        """The parameters, data and settings that a resumed run must share with this one."""
        s, samples = self.settings, [*tensors_in(self.run.train.x), self.run.train.targets]
        if self.run.test:
            samples += [*tensors_in(self.run.test.x), self.run.test.targets]
        return {
            "parameters": {n: f"{tuple(p.shape)} {p.dtype}" for n, p in self.run.module.named_parameters()},
            "trained": sorted(self.run.parameters()),
            "data": fingerprint(samples),
            "loss": self.run.objective.name,
            **{k: getattr(s, k) for k in ("optimizer", "lr", "batch_size", "momentum", "seed")},
            **{k: getattr(self.options, k) for k in ("every", "gram_rows")},
        }

    def _config(self) -> dict[str, Any]:
        """How the run is made, as plain data."""
        s, options, run, data = self.settings, self.options, self.run, self.run.train
        losses, momentum, n_test = "minibatch", None, 0
        if self.full_batch:
            losses = "full"
        if s.optimizer in ("momentum", "nesterov"):
            momentum = s.momentum
        if run.test:
            n_test = len(run.test)
        return {
            "loss": run.objective.name,
            "optimizer": s.optimizer,
            "lr": self.lr.value,
            "lr_from": self.lr.source,
            "learning_rate": vars(self.lr),
            "losses": losses,
            "batch_size": self.batches.size,
            "momentum": momentum,
            "seed": s.seed,
            "steps": self.n_steps,
            "every": options.every,
            "stop_loss": options.stop_loss,
            "stop_accuracy": options.stop_accuracy,
            "n_train": len(data),
            "n_test": n_test,
            "in_shape": list(tensors_in(data.x)[0].shape[1:]),
            "n_outputs": run.n_outputs,
            "gram_rows": len(run.rows),
            "module": type(run.module).__name__,
            "parameters": sum(p.numel() for p in run.module.parameters()),
            "trainable": sum(p.numel() for p in run.parameters().values()),
            "dtype": str(tensors_in(data.x)[0].dtype).removeprefix("torch."),
            "device": str(data.x.device),
            "torch": torch.__version__,
            "skipped": dict(self.skipped),
        }
