"""A watched run as plain data, for the report that `certify` writes too."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gramian.certify.run_facts import accuracy_facts, layer_name, moved_facts, origin_facts, probe_facts
from gramian.monitor.measurement_schedule import AT_FIRST
from gramian.monitor.watched import WatchedNetwork
from gramian.monitor.words import QUESTIONS, lately
from gramian.report.facts import (
    DataFacts,
    LayerFacts,
    LossFacts,
    ReportFacts,
    RunFacts,
    SampleFacts,
    SpectrumFacts,
    TestErrorFacts,
)
from gramian.train.trace import Trace

EDGE = "edge"


def about(module: nn.Module, seen: WatchedNetwork) -> dict[str, Any]:
    """What stays the same over a run, as plain data: the log has it too."""
    run = seen.run
    images, _ = seen.pictures
    return _model(module) | {
        "loss": run.objective.name,
        "loss_kind": seen.kind,
        "n_train": len(run.train),
        "n_test": len(run.test) if run.test else 0,
        "gram_rows": len(run.rows),
        "slow_rows": len(seen.slow_rows),
        "edge_rows": len(seen.x),
        "positions": seen.positions,
        "kernel_outputs": seen.outputs,
        "in_shape": [] if images is None else list(images.shape[1:]),
        "n_outputs": run.n_outputs,
        "parameters": sum(p.numel() for p in run.parameters().values()),
    }


def unwatched(module: nn.Module, optimizer: Optimizer, why: str) -> dict[str, Any]:
    """The same of a run that cannot be watched."""
    return _model(module) | {
        "loss": "",
        "n_train": 0,
        "n_test": 0,
        "in_shape": [],
        "n_outputs": 0,
        "parameters": sum(p.numel() for p in module.parameters()),
        "optimizer": type(optimizer).__name__,
        "skipped": {"the monitor": f"failed: {why}"},
    }


def _model(module: nn.Module) -> dict[str, Any]:
    first, dtype, device = next(module.parameters(), None), "", ""
    if first is not None:
        dtype, device = str(first.dtype).removeprefix("torch."), str(first.device)
    return {
        "module": type(module).__name__,
        "network": str(module),
        "dtype": dtype,
        "device": device,
        "torch": torch.__version__,
    }


def facts(
    trace: Trace,
    answer: tuple[str, ...],
    spectra: dict[str, Tensor],
    seconds: dict[str, float],
    samples: list[SampleFacts] | None = None,
) -> dict[str, Any]:
    """Facts for `gramian.report.write`; `spectra` are ascending eigenvalues, "initial" and "final"."""
    config, name = trace.config, trace.config["module"]
    failed = {one: why for one, why in config["skipped"].items() if why.startswith("failed")}
    spectrum = {when: [float(f"{v:.6g}") for v in values.flip(0).tolist()] for when, values in spectra.items()}
    run = RunFacts(
        key="watched",
        title=name,
        network=config["network"],
        status="watched",
        answer=list(answer),
        questions=[*([""] * (len(answer) - len(QUESTIONS))), *QUESTIONS],
        loss=_loss(trace),
        accuracy=accuracy_facts(trace),
        spectrum=SpectrumFacts(**spectrum),  # type: ignore[arg-type]
        moved=moved_facts(trace),
        test=_test_error(trace),
        samples=samples or [],
        layers=layer_facts(trace),
        probes=probe_facts(trace, ("kernel_cosine", EDGE)),
        warnings=[f"Not measured: {one} ({why})." for one, why in failed.items()],
        origin=origin_facts(
            python=None,
            seed=None,
            dtype=config["dtype"],
            device=config["device"],
            seconds=seconds,
            parameters=config["parameters"],
            interrupted=False,
            overhead=_overhead(config, seconds),
            left_out=[f"{one}: {why}" for one, why in config["skipped"].items() if one not in failed],
        ),
    )
    data = DataFacts(
        name="watched rows",
        classes=config.get("classes", []),
        **{one: config[one] for one in ("n_train", "n_test", "in_shape", "n_outputs")},
    )
    title = f"{name}: {config['optimizer']}, {trace.reason}"
    return ReportFacts(title=title, data=data, runs=[run]).to_dict()


def _loss(trace: Trace) -> LossFacts:
    config, edge = trace.config, trace.measured.get(EDGE)
    lr, lr_max = config["lr"], None
    last = edge.values[-1] if edge is not None and edge.values else None
    if isinstance(last, float) and last > 0:
        lr_max = lr / last
    return LossFacts(
        steps=trace.steps,
        measured=trace.losses,
        loss_name=config["loss"],
        lr=lr,
        lr_max=lr_max,
        optimizer=config["optimizer"],
    )


def _test_error(trace: Trace) -> TestErrorFacts:
    accuracy = trace.measured.get("test_accuracy")
    if accuracy is None:
        return TestErrorFacts(steps=[], network_error=[])
    errors = [1 - v for v in accuracy.values if isinstance(v, float)]
    return TestErrorFacts(steps=accuracy.steps, network_error=errors)


def layer_facts(trace: Trace) -> list[LayerFacts]:
    """Each layer's way and pull: how far it is from the start, how much of that came lately, what still pulls at it."""
    way, pull = trace.measured.get("distance"), trace.measured.get("layer_gradient_over_loss")
    share = trace.measured.get("relative_distance")
    if way is None:
        return []
    layers = []
    for label in way.labels:
        moved = pulling = None
        if share is not None and label in share.labels and math.isfinite(share.of(label)[-1]):
            moved = share.of(label)[-1]
        if pull is not None:
            pulls = [math.sqrt(v) for v in pull.of(label) if v >= 0]
            if max(pulls, default=0.0) > 0:
                pulling = pulls[-1] / max(pulls)
        layers.append(LayerFacts(name=layer_name(label), moved=moved, lately=lately(way, label), pull=pulling))
    return layers


def _overhead(config: dict[str, Any], seconds: dict[str, float]) -> str | None:
    if "share" not in config or "measuring" not in seconds:
        return None
    first = f"; before it {seconds['setup']:.1f} s, for answers {seconds['answers']:.1f} s"
    allowed = f"of {config['share']:.0%} that it may take"
    if config["overhead"] > config["share"]:
        allowed = f"in a run that is short: {config['share']:.0%} or {AT_FIRST:.0f} s in all are allowed"
    return f"{config['overhead']:.1%} of the training time, {allowed}{first}"
