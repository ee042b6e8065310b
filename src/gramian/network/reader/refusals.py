"""What is said of a call that no op reads: why, and what to type instead."""

from __future__ import annotations

from gramian.errors import NoLimit

ANY = "gramian.monte_carlo(module, x), any module's mean kernel with its standard error, or its empirical_ntk"
MAX = "values that share a window are correlated, and their maximum has no covariance in closed form"
GATES = "a product of gates that share their inputs has no covariance in closed form"
NORMS = "normalizations are read from torch's own layers, whose statistics converge when the width grows"
LOGITS = "at the network's end leave it out: the kernel is that of the logits, and nn.CrossEntropyLoss takes them"
KNOWN: dict[str, tuple[str, str]] = {  # the start of an aten name: (why, fix)
    "softmax": ("it mixes channels", LOGITS + "; over the keys of attention, softmax(q @ k.mT / q.shape[-1], -1) @ v, "
                "it is read; or " + ANY),
    "log_softmax": ("it mixes channels", LOGITS + "; or " + ANY),
    "max_pool": (MAX, "nn.AvgPool2d, or a convolution with a stride; or " + ANY),
    "adaptive_max_pool": (MAX, "nn.AdaptiveAvgPool2d; or " + ANY),
    "amax": (MAX, "a mean over positions; or " + ANY),
    "max": (MAX, "a mean over positions; or " + ANY),
    "embedding_bag": ("a bag hides its tokens from the reader", "nn.Embedding, then emb(tokens).mean(1); or " + ANY),
    "rnn_": ("its sequences are packed, with lengths of their own", "inputs of one length; or " + ANY),
    "lstm": (GATES, "nn.RNN, whose tanh or ReLU is read; or " + ANY),
    "instance_norm": ("a channel's variance over its own positions stays random, however many channels there are",
                      "nn.GroupNorm(1, channels); or " + ANY),
    "std": (NORMS, "nn.LayerNorm, nn.RMSNorm or nn.GroupNorm; or " + ANY),
    "var": (NORMS, "nn.LayerNorm, nn.RMSNorm or nn.GroupNorm; or " + ANY),
    "linalg_vector_norm": (NORMS, "nn.RMSNorm, the same times the root of the width; or " + ANY),
    "gru": (GATES, "nn.RNN, whose tanh or ReLU is read; or " + ANY),
}  # fmt: skip


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
