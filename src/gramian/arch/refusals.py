"""What is said of a call that no op reads: why, and what to type instead."""

from __future__ import annotations

from gramian.errors import NoLimit

ANY = "gramian.monte_carlo(module, x), any module's mean kernel with its standard error, or its empirical_ntk"
MAX = "values that share a window are correlated, and their maximum has no covariance in closed form"
HEADS = "heads and softmax weights of a fixed size stay random when the width grows"
KNOWN: dict[str, tuple[str, str]] = {  # the start of an aten name: (why, fix)
    "scaled_dot_product_attention": (HEADS, "average the positions (F.avg_pool1d, a fixed matrix A @ x); or " + ANY),
    "softmax": ("it mixes channels, or makes weights that stay random when the width grows", ANY),
    "max_pool": (MAX, "nn.AvgPool2d, or a convolution with a stride; or " + ANY),
    "adaptive_max_pool": (MAX, "nn.AdaptiveAvgPool2d; or " + ANY),
    "amax": (MAX, "a mean over positions; or " + ANY),
    "max": (MAX, "a mean over positions; or " + ANY),
    "split": ("parts of one layer's channels share its law, and no op takes channels apart",
              "give each part its own nn.Linear; take positions as a slice, x[:, a:b]; or " + ANY),
    "rnn_": ("its sequences are packed, with lengths of their own", "inputs of one length; or " + ANY),
    "lstm": ("a product of gates that share their inputs has no covariance in closed form", ANY),
    "gru": ("a product of gates that share their inputs has no covariance in closed form", ANY),
}  # fmt: skip
KNOWN["chunk"] = KNOWN["split"]


def no_reader(target: str) -> NoLimit:
    """The refusal of an aten call that no op reads."""
    name = target.removeprefix("aten.").split(".")[0]
    for start, (why, fix) in KNOWN.items():
        if name == start or (start != "max" and name.startswith(start)):
            return NoLimit(f"`{name}` has no infinite-width rule here.", why=why, fix=fix)
    return NoLimit(
        f"`{name}` has no infinite-width rule here.",
        why=f"no op reads the call {target}",
        fix="use a layer that has a limit, or add an op (CONTRIBUTING.md); or gramian.monte_carlo(module, x), any "
        "module's mean kernel with its standard error, or its empirical_ntk",
    )
