"""Makes fixture_facts.json: INVENTED numbers with the shape of a real report, for the tests of `report` only.

Run it to make the file again: python tests/report/make_fixture_facts.py
The curves come from toy formulas (a power-law spectrum, its exact gradient descent, and seeded noise); no network ran.
"""

import json
import math
import random
from pathlib import Path

N = 120  # training points of the toy spectrum
STEPS = list(range(0, 401, 2))
EVERY = list(range(0, 401, 20))


def facts() -> dict:
    return {
        "schema": 1,
        "title": "digits: 3 networks (fixture, invented numbers)",
        "data": {
            "name": "digits",
            "source": "scikit-learn's embedded digits, 8 x 8 gray images, rows scaled to unit norm",
            "n_train": 500,
            "n_test": 297,
            "in_shape": [64],
            "n_outputs": 10,
            "classes": [str(c) for c in range(10)],
            "geometry": {
                "norm_min": 1.0,
                "norm_max": 1.0,
                "separation": 0.2134,
                "closest": [3, 77],
                "duplicates": [],
                "conflicts": [],
            },
        },
        "runs": [
            run("mlp", "MLP, depth 3, width 1,024", "observed", 0.03, 5, 1024, 1500, seed=1),
            run("cnn", "CNN, 4 convolutions, global pooling, 256 channels", "implied", 0.015, 5, 256, 200, seed=2),
            run("resnet", "ResNet, depth 10, width 512", "not shown", 0.09, 20, 512, 2400, seed=3),
        ],
    }


def run(key: str, title: str, status: str, gap: float, layers: int, width: int, useful: int, seed: int) -> dict:
    rng = random.Random(seed)
    noise = lambda size: 1 + size * rng.gauss(0, 1)  # noqa: E731
    limit = [4.2 * (i + 1) ** -1.35 + 0.004 for i in range(N)]
    initial = sorted((v * noise(gap) for v in limit), reverse=True)
    final = sorted((v * noise(gap) * (1 + 2 * gap / (1 + i)) for i, v in enumerate(limit)), reverse=True)
    lr = 0.4
    predicted, from_initial, measured = [], [], []
    for s in STEPS:
        predicted.append(sum(0.5 * 40 / (i + 1) ** 1.1 * (1 - lr * v) ** (2 * s) for i, v in enumerate(limit)))
        from_initial.append(sum(0.5 * 40 / (i + 1) ** 1.1 * (1 - lr * v) ** (2 * s) for i, v in enumerate(initial)))
        measured.append(from_initial[-1] * (1 - gap * s / 400) * noise(gap / 30))
    train = [min(1.0, 0.1 + 0.9 * (1 - math.exp(-s / 18))) if s < 140 else 1.0 for s in STEPS]
    error = [0.055 + 0.84 * math.exp(-s / 25) + 0.004 * rng.random() for s in STEPS]
    names = [f"{2 * k}.weight" for k in range(layers)]
    slowness = [40 + 10 * rng.random() for _ in names]
    distance = lambda s: [f * (1 - math.exp(-s / w)) for f, w in zip(far, slowness, strict=True)]  # noqa: E731
    far = [gap * (0.3 + rng.random()) for _ in names]
    flip = [gap * (0.15 + 0.6 * rng.random()) for _ in names[1:]]
    rise = [1 - math.exp(-s / 60) for s in EVERY]
    grad = [0.06 * noise(0.02) * math.exp(-s / 350) for s in EVERY]
    widths = [64, 128, 256, 512, 1024]
    constant = 0.1 * useful**0.5
    return {
        "key": key,
        "title": title,
        "network": "Sequential(\n"
        + "".join(f"  ({k}): Linear({width}, {width}) sigma_w = 1.414, then ReLU\n" for k in range(layers))
        + ")",
        "status": status,
        "answer": answer(status, width, useful),
        "loss": {
            "steps": STEPS,
            "measured": rounded(measured),
            "predicted": rounded(predicted),
            "predicted_initial": rounded(from_initial),
            "loss_name": "squared",
            "lr": lr,
            "lr_max": 0.4762,
            "optimizer": "full-batch gradient descent",
        },
        "accuracy": {"steps": STEPS, "train": rounded(train), "test": rounded([1 - e for e in error])},
        "spectrum": {"limit": rounded(limit), "initial": rounded(initial), "final": rounded(final)},
        "moved": {
            "steps": EVERY,
            "layers": names,
            "distance": [rounded(distance(s)) for s in EVERY],
            "flip_layers": [str(2 * k + 1) for k in range(layers - 1)],
            "flips": [rounded([f * r for f in flip]) for r in rise],
            "drift_steps": EVERY,
            "drift": rounded([2 * gap * r for r in rise]),
            "alignment": rounded([0.21 + 0.06 * r for r in rise]),
        },
        "test": {
            "steps": STEPS,
            "network_error": rounded(error),
            "kernel_error": 0.0505,
            "kernel_curve_steps": STEPS[::4],
            "kernel_curve": rounded([0.0505 + 0.845 * math.exp(-s / 24) for s in STEPS[::4]]),
        },
        "probes": [
            {
                "name": "gradient",
                "title": "Squared gradient norm over loss",
                "unit": "",
                "steps": EVERY,
                "values": rounded(grad),
                "lower": [0.008] * len(EVERY),
                "upper": [9.1] * len(EVERY),
            },
            {
                "name": "gram_min",
                "title": "Smallest eigenvalue of the Gram matrix",
                "unit": "",
                "steps": EVERY,
                "values": rounded([min(final) * noise(0.02) for _ in EVERY]),
                "lower": [min(limit) / 2] * len(EVERY),
                "upper": None,
            },
            {
                "name": "linear_gap",
                "title": "Gap to the linearized network",
                "unit": "relative",
                "steps": EVERY,
                "values": rounded([gap * r * noise(0.03) for r in rise]),
                "lower": None,
                "upper": None,
            },
        ],
        "width": {
            "widths": widths,
            "errors": rounded([constant * w**-0.5 * noise(0.05) for w in widths]),
            "slope": -0.496,
            "constant": constant,
            "tolerance": 0.1,
            "useful_width": useful,
            "run_width": width,
            "run_error": round(constant * width**-0.5, 4),
            "in_regime": width >= useful,
            "papers": [
                {"theorem": "Allen-Zhu, Li, Song 2019, Theorem 1", "width": 3.1e74},
                {"theorem": "Du et al. 2019, Theorem 5.1", "width": 1.4e23},
            ],
        },
        "certificates": certificates(status, width, useful),
        "warnings": ["The loss was still falling at the last step."] if key == "resnet" else [],
        "origin": {
            "command": f"gramian certify --data digits --n 500 --net {key} --width {width} --optimizer gd --seed 0",
            "python": 'gramian.certify(net, x, y, optimizer="gd", lr=0.4, steps=400, seed=0)',
            "seed": 0,
            "dtype": "float32",
            "device": "cpu",
            "commit": "34ef252",
            "versions": {"gramian": "0.1.0", "torch": "2.13.0", "python": "3.11.2"},
            "seconds": {"kernel": 1.24, "training": 31.7, "certificates": 0.08, "width sweep": 12.4},
            "date": "2026-11-21T10:00:00+00:00",
            "parameters": 2_179_082,
            "interrupted": False,
        },
    }


def answer(status: str, width: int, useful: int) -> list[str]:
    yes = "Yes: gradient descent reached 100 % training accuracy in 140 steps, and the loss goes on falling to zero."
    speed = "The loss fell as fast as the infinite-width kernel predicts, at 84 % of the largest stable learning rate."
    why = {
        "implied": "We know why: the smallest eigenvalue stayed above half its limit, as Du et al.'s theorem asks.",
        "observed": f"No theorem covers width {width:,}; by the width sweep, {useful:,} would be enough.",
    }
    if status == "not shown":
        yes = "Not shown: training accuracy reached 100 % in 140 steps, but the loss is still above the goal of 0.01."
    return [
        yes,
        speed,
        why.get(status, "No theorem's premises hold here, and the kernel drifted by more than a tenth."),
    ]


def certificates(status: str, width: int, useful: int) -> list[dict]:
    held = status == "implied"
    return [
        {
            "theorem": "Gradient descent finds a global minimum of an over-parametrized deep network (Theorem 1)",
            "reference": "Allen-Zhu, Li, Song 2019, arXiv:1811.03962",
            "status": "observed",
            "summary": "The loss fell at a linear rate, but the width that the theorem asks for is out of reach.",
            "premises": [
                condition("width m", "3.1e74", f"{width}", False, "n^24 L^12 C / δ^8, its constant taken as 1"),
                condition("inputs of unit norm", "1", "1", True, ""),
                condition("separation δ > 0", "> 0", "0.2134", True, "closest rows: 3 and 77"),
            ],
            "conclusion": [
                condition("loss below ε", "<= 1e-2", "8.41e-3", True, ""),
                condition("distance from initialization", "<= 41.2", "3.07", True, "Frobenius norm, all layers"),
            ],
            "constants": "Constants that the paper leaves open are taken as 1.",
        },
        {
            "theorem": "The smallest eigenvalue stays above half its limit (Theorem 5.1)",
            "reference": "Du, Lee, Li, Wang, Zhai 2019, arXiv:1811.03804",
            "status": status,
            "summary": "The Gram matrix stayed well-conditioned all through training." if held else "",
            "premises": [
                condition("smallest eigenvalue of the limit", "> 0", "1.05e-2", True, ""),
                condition("width m", f"{useful}", f"{width}", width >= useful, "the width measured to be enough"),
                condition("learning rate", "<= 0.4762", "0.4", True, "2 / λ_max"),
            ],
            "conclusion": [
                condition("smallest eigenvalue at every step", ">= 5.2e-3", "1.01e-2", True, ""),
                condition("residual at every step", "<= (1 - η λ / 2)^t", None, None, "run longer to measure it"),
            ],
            "constants": "",
        },
    ]


def condition(says: str, needs: str, has: str | None, holds: bool | None, note: str) -> dict:
    return {"says": says, "needs": needs, "has": has, "holds": holds, "note": note}


def rounded(values: list[float]) -> list[float]:
    return [float(f"{v:.5g}") for v in values]


if __name__ == "__main__":
    path = Path(__file__).with_name("fixture_facts.json")
    path.write_text(json.dumps(facts()) + "\n", encoding="utf-8")
