"""A run that is gone on with: a monitor's state for a checkpoint, and what its log of before still says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gramian.errors import BadData
from gramian.monitor.log import SINCE_THE_START, read_log
from gramian.monitor.undisturbed import undisturbed
from gramian.train.recorder import Recorder
from gramian.train.trace import Trace

Measuring = Any  # that of gramian.monitor.measuring, which imports this file

FORMAT = 1


def state_of(m: Measuring) -> dict[str, Any]:
    """All that a monitor needs to go on: steps, what was measured, the weights of the start; plain data and tensors."""
    trace = m.trace().to_dict()
    return {
        "format": FORMAT,
        "step": m.step,
        "since": m.since,
        "initial": {name: t.clone() for name, t in m.run.initial.items()},
        "buffers": {name: t.clone() for name, t in m.buffers.items()},
        "spectra": dict(m.spectra()),
        "trace": {**trace, "config": {}},
        "largest_lr": m.largest_lr,
        "seconds": m.schedule.elapsed,
    }


def take_up(m: Measuring, state: Mapping[str, Any], *, replaces: bool = False) -> None:
    """Goes on from `state_of`: probes begin at the weights of the start, and nothing that was measured is lost.

    Args:
        m: a monitor of the same module; the module has the weights of the step now.
        state: of the run that is gone on with.
        replaces: whether the log has begun a run already that is none.

    Raises:
        BadData: the state is that of another module, or none.
    """
    initial = _fitting(m, state)
    m.since, step = int(state["since"]), int(state["step"])
    buffers = {name: t for name, t in state["buffers"].items() if name in m.buffers}
    m.run.at(m.since)
    m.run.initial = initial
    m.buffers = {**m.buffers, **buffers}
    with _at_the_start(m.module, m.run.parameters(), initial, buffers):
        m.start()
    m.run.at(step)
    m.record = Recorder()
    m.record.load(Trace.from_dict({**state["trace"], "config": {}}))
    m.spectra().clear()
    m.spectra().update(state["spectra"])
    m.largest_lr = max(m.largest_lr, float(state["largest_lr"]))
    m.schedule.go_on(step, float(state["seconds"]))
    m.leave_out()
    mark = {"since": m.since, "replaces": replaces}
    m.log.add(step, m.schedule.elapsed, {}, {"run": m.config(), "resumed": mark})


def recorded(log: Path | None, step: int) -> Recorder:
    """What a log says of the steps before: not what compares with its start, which is not this run's."""
    record = Recorder()
    try:
        if log is not None and log.exists():
            trace = read_log(log)
        else:
            trace = None
    except (OSError, ValueError):  # it begins now
        trace = None
    if trace is None:
        return record
    kept = {}
    for name, series in trace.measured.items():
        rows = [(k, v) for k, v in zip(series.steps, series.values, strict=True) if k < step]
        if rows and name not in SINCE_THE_START:
            kept[name] = type(series)(series.title, series.unit, [k for k, _ in rows], [v for _, v in rows])
    losses = [(k, v) for k, v in zip(trace.steps, trace.losses, strict=True) if k < step]
    record.load(Trace({}, [k for k, _ in losses], [v for _, v in losses], kept))
    return record


def _fitting(m: Measuring, state: Mapping[str, Any]) -> dict[str, Tensor]:
    now = {name: tuple(p.shape) for name, p in m.run.parameters().items()}
    if isinstance(state, Mapping):
        then = state.get("initial", {})
    else:
        then = {}
    if state.get("format") != FORMAT or {name: tuple(t.shape) for name, t in then.items()} != now:
        raise BadData(
            "The monitor's state does not fit: its trainable parameters are not those of this module.",
            where="Monitor(..., resume=), or load_state_dict",
            why="it is the state of another module, of other frozen layers, or no monitor's",
            fix="what monitor.state_dict() gave for this module",
        )
    return {name: then[name].to(p.device, p.dtype) for name, p in m.run.parameters().items()}


@contextmanager
def _at_the_start(
    module: nn.Module, parameters: Mapping[str, Tensor], initial: Mapping[str, Tensor], buffers: Mapping[str, Tensor]
) -> Iterator[None]:
    """The module with the weights and buffers that it started with."""
    with undisturbed(module), torch.no_grad():
        kept = [(p, p.data) for p in parameters.values()]
        own = dict(module.named_buffers())  # copies: the module's own come back
        for name, t in buffers.items():
            own[name].copy_(t)
        for name, p in parameters.items():
            p.data = initial[name].clone()
        try:
            yield
        finally:
            for p, before in kept:
                p.data = before
