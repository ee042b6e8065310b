"""A watched run as plain data, for the report that `certify` writes too."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gramian.certify.facts import accuracy_facts, made_facts, moved_facts, probe_facts
from gramian.certify.monitor.watched import Watched
from gramian.train.trace import Trace

SCHEMA = 1
EDGE = "edge"


def about(module: nn.Module, seen: Watched) -> dict[str, Any]:
    """What stays the same over a run, as plain data: the log has it too."""
    run = seen.run
    return {
        "loss": run.objective.name,
        "n_train": len(run.train),
        "n_test": len(run.test) if run.test else 0,
        "gram_rows": len(run.rows),
        "edge_rows": len(seen.x),
        "positions": seen.positions,
        "in_shape": list(run.train.x.shape[1:]),
        "n_outputs": run.n_outputs,
        "module": type(module).__name__,
        "network": str(module),
        "parameters": sum(p.numel() for p in run.parameters().values()),
        "dtype": str(next(module.parameters()).dtype).removeprefix("torch."),
        "device": str(run.train.x.device),
        "torch": torch.__version__,
    }


def facts(
    trace: Trace, answer: tuple[str, ...], spectra: dict[str, Tensor], seconds: dict[str, float]
) -> dict[str, Any]:
    """Facts for `gramian.report.write`; `spectra` are ascending eigenvalues, "initial" and "final"."""
    config, edge = trace.config, trace.measured.get(EDGE)
    lr = config["lr"]
    last = edge.values[-1] if edge is not None and edge.values else None
    name = config["module"]
    test = trace.measured.get("test_accuracy")
    made = {
        "key": "watched",
        "title": name,
        "network": config["network"],
        "status": "watched",
        "answer": list(answer),
        "loss": {
            "steps": trace.steps,
            "measured": trace.losses,
            "loss_name": config["loss"],
            "lr": lr,
            "lr_max": lr / last if isinstance(last, float) and last > 0 else None,
            "optimizer": config["optimizer"],
        },
        "accuracy": accuracy_facts(trace),
        "spectrum": {when: [float(f"{v:.6g}") for v in values.flip(0).tolist()] for when, values in spectra.items()},
        "moved": moved_facts(trace),
        "test": {
            "steps": test.steps if test else [],
            "network_error": [1 - v for v in test.values if isinstance(v, float)] if test else [],
        },
        "probes": probe_facts(trace, (EDGE,)),
        "warnings": [f"Not measured: {name} ({why})." for name, why in config["skipped"].items()],
        "made": made_facts(
            python=None,
            seed=None,
            dtype=config["dtype"],
            device=config["device"],
            seconds=seconds,
            parameters=config["parameters"],
            interrupted=False,
        ),
    }
    data = {
        "name": "watched rows",
        **{name: config[name] for name in ("n_train", "n_test", "in_shape", "n_outputs")},
    }
    return {"schema": SCHEMA, "title": f"{name}: {config['optimizer']}, {trace.reason}", "data": data, "runs": [made]}
