"""A watched run as plain data, for the report that `certify` writes too."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gramian.certify.facts import accuracy_facts, made_facts, moved_facts, probe_facts
from gramian.train.run import Run
from gramian.train.trace import Trace

SCHEMA = 1
EDGE = "edge"


def facts(
    run: Run, trace: Trace, answer: tuple[str, ...], spectra: dict[str, Tensor], seconds: dict[str, float]
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
        "network": str(run.module),
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
            parameters=sum(p.numel() for p in run.parameters().values()),
            interrupted=False,
        ),
    }
    data = {
        "name": "watched rows",
        "n_train": len(run.train),
        "n_test": len(run.test) if run.test else 0,
        "in_shape": list(run.train.x.shape[1:]),
        "n_outputs": run.n_outputs,
    }
    return {"schema": SCHEMA, "title": f"{name}: {config['optimizer']}, {trace.reason}", "data": data, "runs": [made]}
