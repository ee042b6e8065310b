"""What is said of a call that no op reads: why, and what to type instead."""

from __future__ import annotations

from gramian.errors import NoLimit

ANY_MODULE = "gramian.monte_carlo(module, x), any module's mean kernel with its standard error, or its empirical_ntk"
WHY_NO_MAXIMUM = "values that share a window are correlated, and their maximum has no covariance in closed form"
WHY_NO_GATES = "a product of gates that share their inputs has no covariance in closed form"
WHY_NO_NORMS = "normalizations are read from torch's own layers, whose statistics converge when the width grows"
LEAVE_LOGITS = "at the network's end leave it out: the kernel is that of the logits, and nn.CrossEntropyLoss takes them"
KNOWN_REFUSALS: dict[str, tuple[str, str]] = {  # the start of an aten name: (why, fix)
    "softmax": (
        "it mixes channels",
        f"{LEAVE_LOGITS}; over the keys of attention, softmax(q @ k.mT / q.shape[-1], -1) @ v, it is read; "
        f"or {ANY_MODULE}",
    ),
    "log_softmax": ("it mixes channels", LEAVE_LOGITS + "; or " + ANY_MODULE),
    "max_pool": (WHY_NO_MAXIMUM, "nn.AvgPool2d, or a convolution with a stride; or " + ANY_MODULE),
    "adaptive_max_pool": (WHY_NO_MAXIMUM, "nn.AdaptiveAvgPool2d; or " + ANY_MODULE),
    "amax": (WHY_NO_MAXIMUM, "a mean over positions; or " + ANY_MODULE),
    "max": (WHY_NO_MAXIMUM, "a mean over positions; or " + ANY_MODULE),
    "embedding_bag": (
        "a bag hides its tokens from the reader", "nn.Embedding, then emb(tokens).mean(1); or " + ANY_MODULE
    ),
    "rnn_": ("its sequences are packed, with lengths of their own", "inputs of one length; or " + ANY_MODULE),
    "lstm": (WHY_NO_GATES, "nn.RNN, whose tanh or ReLU is read; or " + ANY_MODULE),
    "instance_norm": ("a channel's variance over its own positions stays random, however many channels there are",
                      "nn.GroupNorm(1, channels); or " + ANY_MODULE),
    "std": (WHY_NO_NORMS, "nn.LayerNorm, nn.RMSNorm or nn.GroupNorm; or " + ANY_MODULE),
    "var": (WHY_NO_NORMS, "nn.LayerNorm, nn.RMSNorm or nn.GroupNorm; or " + ANY_MODULE),
    "linalg_vector_norm": (WHY_NO_NORMS, "nn.RMSNorm, the same times the root of the width; or " + ANY_MODULE),
    "gru": (WHY_NO_GATES, "nn.RNN, whose tanh or ReLU is read; or " + ANY_MODULE),
}  # fmt: skip


def no_reader(target: str) -> NoLimit:
    """The refusal of an aten call that no op reads."""
    name = target.removeprefix("aten.").split(".")[0]
    for start, (why, fix) in KNOWN_REFUSALS.items():
        if name == start or (start != "max" and name.startswith(start)):
            return NoLimit(f"`{name}` has no infinite-width rule here.", why=why, fix=fix)
    return NoLimit(
        f"`{name}` has no infinite-width rule here.",
        why=f"no op reads the call {target}",
        fix="use a layer that has a limit, or add an op (CONTRIBUTING.md); or gramian.monte_carlo(module, x), any "
        "module's mean kernel with its standard error, or its empirical_ntk",
    )
