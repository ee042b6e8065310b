"""More networks for paired_networks.py: layers and activations of neural-tangents that the other files leave out."""

from __future__ import annotations

import math
from typing import Any

from paired_architectures import C3, attending, positions, softmax
from paired_networks import IMAGE, LINE, TOKENS, VECTOR, Factory, add, mlp

# Other activations
for name, torch_phi, stax_phi, law in (
    ("rbf", lambda t: t.fn(lambda h: 2**0.5 * t.torch.sin((2 * 0.7) ** 0.5 * h + math.pi / 4)), lambda s: s.Rbf(0.7),
     (1.3, 0.4)),
    ("gaussian", lambda t: t.fn(lambda h: t.torch.exp(-0.8 * h**2)), lambda s: s.Gaussian(1.0, -0.8), (1.3, 0.4)),
    ("rectified-square", lambda t: t.fn(lambda h: t.torch.relu(h) ** 2), lambda s: s.RectifiedMonomial(2), (0.9, 0.2)),
    ("step", lambda t: t.fn(lambda h: t.torch.heaviside(h, t.torch.tensor(0.5, dtype=h.dtype))),
     lambda s: s.RectifiedMonomial(0), (1.3, 0.4)),
    ("quartic", lambda t: t.fn(lambda h: h**4), lambda s: s.Monomial(4), (0.5, 0.2)),
    ("gabor", lambda t: t.fn(lambda h: t.torch.exp(-(h**2)) * t.torch.sin(h)), lambda s: s.Gabor(), (1.3, 0.4)),
    ("exp-normalized", lambda t: t.fn(lambda h: t.torch.exp(0.6 * h)), lambda s: s.Exp(1.0, 0.6), (0.9, 0.2)),
):  # fmt: skip
    for depth in (1, 2):
        if depth == 1 or name not in ("step", "quartic", "rectified-square"):
            add(f"mlp-{name}-{depth}", VECTOR, *mlp(depth, torch_phi, stax_phi), law=law)
add("rectified-square-twice", VECTOR, *mlp(2, lambda t: t.fn(lambda h: t.torch.relu(h) ** 2),
                                           lambda s: s.RectifiedMonomial(2)),
    law=(0.9, 0.2), why="RectifiedMonomial gives NaN at equal inputs, and so for all that is above it")  # fmt: skip
add("mlp-sign", VECTOR, *mlp(2, lambda t: t.fn(t.torch.sign), lambda s: s.Sign()))
add("mlp-tanh-quadrature", VECTOR, *mlp(1, lambda t: t.nn.Tanh(), lambda s: s.ElementwiseNumerical(s.jnp.tanh, 200)),
    law=(0.5, 0.1))  # fmt: skip

# A graph for each input


def graphs(layers: int, head: str) -> tuple[Factory, Factory]:
    """A layer, the edges and ReLU, so many times; the mean over the nodes, or all of them."""

    def ours(t: Any) -> Any:
        parts: list[Any] = []
        for number in range(layers):
            parts += [t.lin(t.w if number else TOKENS[1], t.w), t.edges(), t.nn.ReLU()]
        if head == "flat":
            return t.graphs(*parts, t.nn.Flatten(), t.lin(TOKENS[0] * t.w, t.out))
        return t.graphs(*parts, t.fn(lambda h: h.mean(1)), t.lin(t.w, t.out))

    def theirs(s: Any) -> Any:
        end = s.Flatten() if head == "flat" else s.GlobalAvgPool()
        return s.serial(*(part for _ in range(layers) for part in (s.D(), s.Aggregate(1), s.Relu())), end, s.D())

    return ours, theirs


for layers in (1, 3):
    for head in ("mean", "flat"):
        add(f"graph-of-each-{layers}-{head}", TOKENS, *graphs(layers, head), last=True, graph="each")
add("graph-of-each-input", TOKENS,
    lambda t: t.graphs(t.edges(), t.lin(4, t.w), t.nn.ReLU(), t.fn(lambda h: h.sum(1)), t.lin(t.w, t.out)),
    lambda s: s.serial(s.Aggregate(1), s.D(), s.Relu(), s.GlobalSumPool(), s.D()), last=True, graph="each")  # fmt: skip

# Positions with a covariance of their own, from the distances between them; positions as channels of their own
decaying = positions | {"s_pos_emb_p_norm": 1.0, "t_decay": lambda d: 0.7 * 2.0**-d}
add("positions-that-decay", TOKENS,
    *attending(softmax, "SOFTMAX", **decaying, s_pos_emb_decay_fn=lambda d: 0.7 * 2.0**-d), last=True)  # fmt: skip
add("positions-that-decay-flat", TOKENS,
    *attending(lambda t: t.torch.relu, "RELU", "flat", **decaying | {"s_W_pos_emb_std": 0.9},
               s_pos_emb_decay_fn=lambda d: 0.7 * 2.0**-d), last=True, law=(0.9, 0.3))  # fmt: skip
add("positions-for-keys-alone", TOKENS, *attending(softmax, "SOFTMAX", **positions | {"s_val_pos_emb": False},
                                                   t_values=False), last=True)  # fmt: skip
add("positions-as-channels", TOKENS, *attending(softmax, "SOFTMAX", **positions | {"s_pos_emb_type": "CONCAT"},
                                                t_channels=True), last=True)  # fmt: skip

# Linear maps of the positions, weights of each position's own, dropout in training mode
add("dot-general", IMAGE,
    lambda t: t.seq(t.conv(3, t.w, *C3), t.nn.ReLU(), t.fn(lambda h: (h * t.matrix(6, 1)).sum(2)),
                    t.fn(lambda h: h.mean(2)), t.lin(t.w, t.out)),
    lambda s: s.serial(s.C(*C3), s.Relu(), s.DotGeneral(rhs=s.matrix(6, 1)[:, 0], dimension_numbers=(((1,), (0,)),
                                                                                                  ((), ()))),
                       s.GlobalAvgPool(), s.D()))  # fmt: skip
add("dot-general-scalar", VECTOR,
    lambda t: t.seq(t.lin(6, t.w), t.nn.ReLU(), t.fn(lambda h: 2.5 * h), t.lin(t.w, t.out)),
    lambda s: s.serial(s.D(), s.Relu(), s.DotGeneral(rhs=2.5), s.D()))  # fmt: skip
for head in ("mean", "flat"):
    add(f"locally-connected-{head}", LINE,
        lambda t, head=head: t.seq(t.local(3, t.w, 9), t.nn.ReLU(), t.local(t.w, t.w, 7), t.nn.ReLU(),
                                   *([t.nn.Flatten(), t.lin(5 * t.w, t.out)] if head == "flat" else
                                     [t.fn(lambda h: h.mean(2)), t.lin(t.w, t.out)])),
        lambda s, head=head: s.serial(s.L(), s.Relu(), s.L(), s.Relu(),
                                      s.Flatten() if head == "flat" else s.GlobalAvgPool(), s.D()),
        law=(1.3, 0.0))  # fmt: skip
for rate in (0.2, 0.5):
    add(f"dropout-training-{rate}", VECTOR,
        lambda t, rate=rate: t.train(t.seq(t.lin(6, t.w), t.nn.ReLU(), t.nn.Dropout(rate), t.lin(t.w, t.w), t.nn.ReLU(),
                                           t.nn.Dropout(rate), t.lin(t.w, t.out))),
        lambda s, rate=rate: s.serial(s.D(), s.Relu(), s.Dropout(1 - rate), s.D(), s.Relu(), s.Dropout(1 - rate),
                                      s.D()))  # fmt: skip
