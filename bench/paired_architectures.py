"""The other networks of paired_networks.py: pools, branches, normalizations, sequences, graphs, image networks."""

from __future__ import annotations

from typing import Any

from paired_networks import IMAGE, LINE, NINE, ODD, TOKENS, VECTOR, Factory, add, mlp, relu

# Pools between the layers
C3, S3 = ((3, 3), (1, 1), "SAME"), (1, 1)


def pooled(torch_pool: Factory, stax_pool: Factory, head: str = "mean") -> tuple[Factory, Factory]:
    """Convolution, activation, the pool, again; then the head."""

    def ours(t: Any) -> Any:
        body = t.seq(t.conv(2, t.w, *C3), t.nn.ReLU(), torch_pool(t), t.conv(t.w, t.w, *C3), t.nn.ReLU())
        if head == "flat":
            return t.seq(body, t.nn.Flatten(), t.lin(t.size(body, ODD), t.out))
        return t.seq(body, t.fn(lambda h: h.mean((2, 3))), t.lin(t.w, t.out))

    def theirs(s: Any) -> Any:
        end = s.Flatten() if head == "flat" else s.GlobalAvgPool()
        return s.serial(s.C(*C3), s.Relu(), stax_pool(s), s.C(*C3), s.Relu(), end, s.D())

    return ours, theirs


add("pool-2", ODD, *pooled(lambda t: t.nn.AvgPool2d(2), lambda s: s.AvgPool((2, 2), (2, 2))))
add("pool-2-flat", ODD, *pooled(lambda t: t.nn.AvgPool2d(2), lambda s: s.AvgPool((2, 2), (2, 2)), "flat"))
add("pool-3-same", ODD, *pooled(lambda t: t.nn.AvgPool2d(3, 1, 1), lambda s: s.AvgPool((3, 3), S3, "SAME")))
add("pool-3x2-stride", ODD, *pooled(lambda t: t.nn.AvgPool2d((3, 2), (2, 1)), lambda s: s.AvgPool((3, 2), (2, 1))))
add("pool-sum", ODD, *pooled(lambda t: t.fn(lambda h: 4 * t.F.avg_pool2d(h, 2)), lambda s: s.SumPool((2, 2), (2, 2))))
add("pool-edges", ODD, *pooled(lambda t: t.nn.AvgPool2d(3, 1, 1, count_include_pad=False),
                               lambda s: s.AvgPool((3, 3), S3, "SAME", normalize_edges=True)))  # fmt: skip
add("resize-nearest", ODD, *pooled(lambda t: t.nn.Upsample(scale_factor=2),
                                   lambda s: s.ImageResize((-1, 14, 14, -1), "nearest")))  # fmt: skip
add("resize-linear", ODD, *pooled(lambda t: t.nn.Upsample(scale_factor=2, mode="bilinear"),
                                  lambda s: s.ImageResize((-1, 14, 14, -1), "linear")))  # fmt: skip
add("slice", ODD, *pooled(lambda t: t.fn(lambda h: h[:, :, 1:5, ::2]),
                          lambda s: s.Index(idx=s.Slice[:, 1:5, ::2, :])))  # fmt: skip
add("pool-of-gaussian", ODD, lambda t: t.seq(t.conv(2, t.w, *C3), t.nn.AvgPool2d(2), t.nn.ReLU(), t.nn.Flatten(),
                                             t.lin(9 * t.w, t.out)),
    lambda s: s.serial(s.C(*C3), s.AvgPool((2, 2), (2, 2)), s.Relu(), s.Flatten(), s.D()))  # fmt: skip

# Branches
he = {"law": (2**0.5, 0.2)}


def residual(t: Any, blocks: int) -> Any:
    branch = [t.add(t.same(), t.seq(t.nn.ReLU(), t.lin(t.w, t.w), t.nn.ReLU(), t.lin(t.w, t.w))) for _ in range(blocks)]
    return t.seq(t.lin(6, t.w), *branch, t.nn.ReLU(), t.lin(t.w, t.out))


def stax_residual(s: Any, blocks: int) -> Any:
    def block() -> Any:
        return s.add(s.Identity(), s.serial(s.Relu(), s.D(), s.Relu(), s.D()))

    return s.serial(s.D(), *(block() for _ in range(blocks)), s.Relu(), s.D())


def recurrent(t: Any, layer: Any) -> Any:
    """One layer at two depths: the same limit as two layers."""
    return t.seq(t.lin(6, t.w), t.nn.ReLU(), layer, t.nn.ReLU(), layer, t.nn.ReLU(), t.lin(t.w, t.out))


add("residual-1", VECTOR, lambda t: residual(t, 1), lambda s: stax_residual(s, 1), **he)
add("residual-4", VECTOR, lambda t: residual(t, 4), lambda s: stax_residual(s, 4), **he)
add("residual-weighted", VECTOR,
    lambda t: t.seq(t.lin(6, t.w), t.add(t.same(), t.seq(t.nn.ReLU(), t.lin(t.w, t.w), t.fn(lambda h: 0.3 * h))),
                    t.nn.ReLU(), t.lin(t.w, t.out)),
    lambda s: s.serial(s.D(), s.add(s.Identity(), s.serial(s.Relu(), s.D(scale=0.3))), s.Relu(), s.D()),
    **he)  # fmt: skip
add("residual-projected", VECTOR,
    lambda t: t.seq(t.lin(6, t.w), t.add(t.lin(t.w, t.w), t.seq(t.nn.ReLU(), t.lin(t.w, t.w))), t.nn.ReLU(),
                    t.lin(t.w, t.out)),
    lambda s: s.serial(s.D(), s.add(s.D(), s.serial(s.Relu(), s.D())), s.Relu(), s.D()), **he)  # fmt: skip
add("three-branches", VECTOR,
    lambda t: t.seq(t.add(t.lin(6, t.w), t.seq(t.lin(6, t.w), t.nn.ReLU(), t.lin(t.w, t.w)),
                          t.seq(t.lin(6, t.w), t.fn(t.torch.erf), t.lin(t.w, t.w))), t.nn.GELU(), t.lin(t.w, t.out)),
    lambda s: s.serial(s.add(s.D(), s.serial(s.D(), s.Relu(), s.D()), s.serial(s.D(), s.Erf(), s.D())), s.Gelu(),
                       s.D()))  # fmt: skip
add("tied-in-depth", VECTOR, lambda t: recurrent(t, t.lin(t.w, t.w)),
    lambda s: s.serial(s.D(), s.Relu(), s.D(), s.Relu(), s.D(), s.Relu(), s.D()), **he)  # fmt: skip
add("dense-net", VECTOR,
    lambda t: t.seq(t.lin(6, t.w), t.nn.ReLU(), t.cat(t.same(), t.seq(t.lin(t.w, t.w), t.nn.ReLU())),
                    t.cat(t.same(), t.seq(t.lin(2 * t.w, t.w), t.nn.ReLU())), t.lin(3 * t.w, t.out)),
    lambda s: s.serial(s.D(8), s.Relu(), s.cat(s.Identity(), s.serial(s.D(8), s.Relu())),
                       s.cat(s.Identity(), s.serial(s.D(8), s.Relu())), s.D()))  # fmt: skip
add("concat-unequal", VECTOR,
    lambda t: t.seq(t.cat(t.seq(t.lin(6, t.w), t.nn.ReLU()), t.seq(t.lin(6, 3 * t.w), t.fn(t.torch.erf))),
                    t.lin(4 * t.w, t.out)),
    lambda s: s.serial(s.cat(s.serial(s.D(8), s.Relu()), s.serial(s.D(24), s.Erf())), s.D()))  # fmt: skip
add("gate-sigmoid", VECTOR,
    lambda t: t.seq(t.mul(t.seq(t.lin(6, t.w), t.fn(lambda h: 0.5 * t.torch.erf(h / 2.4020563531719796) + 0.5)),
                          t.lin(6, t.w)), t.lin(t.w, t.out)),
    lambda s: s.serial(s.mul(s.serial(s.D(), s.Sigmoid_like()), s.D()), s.D()))  # fmt: skip
add("gate-three", VECTOR,
    lambda t: t.seq(t.mul(t.seq(t.lin(6, t.w), t.nn.ReLU()), t.lin(6, t.w), t.seq(t.lin(6, t.w), t.nn.GELU())),
                    t.lin(t.w, t.out)),
    lambda s: s.serial(s.mul(s.serial(s.D(), s.Relu()), s.D(), s.serial(s.D(), s.Gelu())), s.D()))  # fmt: skip
add("gate-conv", ODD,
    lambda t: t.seq(t.mul(t.conv(2, t.w, *C3), t.seq(t.conv(2, t.w, *C3), t.nn.ReLU())),
                    t.fn(lambda h: h.mean((2, 3))), t.lin(t.w, t.out)),
    lambda s: s.serial(s.mul(s.C(*C3), s.serial(s.C(*C3), s.Relu())), s.GlobalAvgPool(), s.D()))  # fmt: skip

# Attention with one layer for keys and queries, scores over the width: what neural-tangents calls linear scaling


def attending(weights: Factory, mechanism: str, head: str = "mean", **more: Any) -> tuple[Factory, Factory]:
    """A layer, ReLU, attention, ReLU, and the head; `more` are arguments of the two libraries, by prefix."""
    ours = {k.removeprefix("t_"): v for k, v in more.items() if k.startswith("t_")}
    theirs = {k.removeprefix("s_"): v for k, v in more.items() if k.startswith("s_")}

    def torch_end(t: Any) -> Any:
        return t.seq(t.fn(lambda h: h.mean(1)), t.lin(t.w, t.out)) if head == "mean" else t.seq(
            t.nn.Flatten(), t.lin(TOKENS[0] * t.w, t.out))  # fmt: skip

    def torch_side(t: Any) -> Any:
        return t.seq(t.lin(4, t.w), t.nn.ReLU(), t.attention(t.w, weights(t), **ours), t.nn.ReLU(), torch_end(t))

    def stax_side(s: Any) -> Any:
        end = s.GlobalAvgPool() if head == "mean" else s.Flatten()
        return s.serial(s.D(), s.Relu(), s.A(mechanism, **theirs), s.Relu(), end, s.D())

    return torch_side, stax_side


softmax: Factory = lambda t: lambda scores: scores.softmax(-1)  # noqa: E731
positions = {"s_pos_emb_type": "SUM", "s_W_pos_emb_std": 1.3, "s_val_pos_emb": True, "t_positions": TOKENS[0]}
add("attention-softmax", TOKENS, *attending(softmax, "SOFTMAX"), last=True)
add("attention-flat", TOKENS, *attending(softmax, "SOFTMAX", "flat"), last=True)
add("attention-heads", TOKENS, *attending(softmax, "SOFTMAX", t_heads=2, s_heads=2), last=True)
add("attention-no-bias", TOKENS, *attending(softmax, "SOFTMAX"), last=True, law=(2**0.5, 0.0))
add("attention-identity", TOKENS, *attending(lambda t: lambda scores: scores, "IDENTITY"), last=True, law=(0.9, 0.3))
add("attention-identity-root", TOKENS, *attending(lambda t: lambda scores: scores, "IDENTITY", s_linear_scaling=False,
                                                  t_heads=2, t_power=0.5), last=True, law=(0.9, 0.3))  # fmt: skip
add("attention-relu", TOKENS, *attending(lambda t: t.torch.relu, "RELU"), last=True, law=(0.9, 0.3))
add("attention-abs", TOKENS, *attending(lambda t: t.torch.abs, "ABS"), last=True, law=(0.9, 0.3))
add("attention-positions", TOKENS, *attending(softmax, "SOFTMAX", **positions), last=True)
add("attention-positions-identity", TOKENS,
    *attending(lambda t: lambda scores: scores, "IDENTITY", "flat", **positions | {"s_W_pos_emb_std": 0.9}),
    last=True, law=(0.9, 0.3))  # fmt: skip

# Normalizations, without trained scales: stax has none; its epsilon is 1e-12 unless said
add("layernorm", VECTOR,
    lambda t: t.seq(t.lin(6, t.w), t.nn.LayerNorm(t.w, elementwise_affine=False), t.nn.ReLU(), t.lin(t.w, t.w),
                    t.nn.LayerNorm(t.w, elementwise_affine=False), t.fn(t.torch.erf), t.lin(t.w, t.out)),
    lambda s: s.serial(s.D(), s.LayerNorm(eps=1e-5), s.Relu(), s.D(), s.LayerNorm(eps=1e-5), s.Erf(),
                       s.D()))  # fmt: skip
add("layernorm-tokens", TOKENS,
    lambda t: t.seq(t.lin(4, t.w), t.nn.LayerNorm(t.w, elementwise_affine=False), t.nn.GELU(), t.lin(t.w, t.w),
                    t.fn(lambda h: h.mean(1)), t.lin(t.w, t.out)), last=True,
    stax=lambda s: s.serial(s.D(), s.LayerNorm(eps=1e-5), s.Gelu(), s.D(), s.GlobalAvgPool(), s.D()))  # fmt: skip
add("layernorm-image", IMAGE,
    lambda t: t.seq(t.conv(3, t.w, *C3), t.nn.GroupNorm(1, t.w, affine=False), t.nn.ReLU(),
                    t.fn(lambda h: h.mean((2, 3))), t.lin(t.w, t.out)),
    lambda s: s.serial(s.C(*C3), s.LayerNorm(axis=(1, 2, 3), eps=1e-5), s.Relu(), s.GlobalAvgPool(),
                       s.D()))  # fmt: skip

# Sequences and graphs: a layer at each position
add("tokens-mean", TOKENS,
    lambda t: t.seq(t.lin(4, t.w), t.nn.ReLU(), t.lin(t.w, t.w), t.nn.ReLU(), t.fn(lambda h: h.mean(1)),
                    t.lin(t.w, t.out)), last=True,
    stax=lambda s: s.serial(s.D(), s.Relu(), s.D(), s.Relu(), s.GlobalAvgPool(), s.D()))  # fmt: skip
add("tokens-flat", TOKENS, lambda t: t.seq(t.lin(4, t.w), t.nn.ReLU(), t.nn.Flatten(), t.lin(5 * t.w, t.out)),
    last=True, stax=lambda s: s.serial(s.D(), s.Relu(), s.Flatten(), s.D()))  # fmt: skip
add("gcn", TOKENS,
    lambda t: t.seq(t.lin(4, t.w), t.fn(lambda h: t.adjacency @ h), t.nn.ReLU(), t.lin(t.w, t.w),
                    t.fn(lambda h: t.adjacency @ h), t.nn.ReLU(), t.fn(lambda h: h.mean(1)), t.lin(t.w, t.out)),
    last=True, graph=True,
    stax=lambda s: s.serial(s.D(), s.Aggregate(1), s.Relu(), s.D(), s.Aggregate(1), s.Relu(), s.GlobalAvgPool(),
                            s.D()))  # fmt: skip
add("gcn-input", TOKENS,
    lambda t: t.seq(t.fn(lambda x: t.adjacency @ x), t.lin(4, t.w), t.nn.ReLU(), t.fn(lambda h: h.sum(1)),
                    t.lin(t.w, t.out)), last=True, graph=True,
    stax=lambda s: s.serial(s.Aggregate(1), s.D(), s.Relu(), s.GlobalSumPool(), s.D()))  # fmt: skip
add("tokens-residual", TOKENS,
    lambda t: t.seq(t.lin(4, t.w), t.add(t.same(), t.seq(t.nn.GELU(), t.lin(t.w, t.w))), t.nn.Flatten(),
                    t.lin(5 * t.w, t.out)), last=True,
    stax=lambda s: s.serial(s.D(), s.add(s.Identity(), s.serial(s.Gelu(), s.D())), s.Flatten(), s.D()))  # fmt: skip

# Transposed convolutions
add("transposed-1d", LINE,
    lambda t: t.seq(t.transposed(3, t.w, (3,), (1,), (1,)), t.nn.ReLU(), t.fn(lambda h: h.mean(2)), t.lin(t.w, t.out)),
    lambda s: s.serial(s.CT((3,), (1,), "SAME"), s.Relu(), s.GlobalAvgPool(), s.D()))  # fmt: skip
add("transposed-stride", LINE,
    lambda t: t.seq(t.transposed(3, t.w, (3,), (2,), (0,)), t.nn.ReLU(), t.fn(lambda h: h.mean(2)), t.lin(t.w, t.out)),
    lambda s: s.serial(s.CT((3,), (2,), "VALID"), s.Relu(), s.GlobalAvgPool(), s.D()))  # fmt: skip
add("transposed-stride-same", LINE,
    lambda t: t.seq(t.transposed(3, t.w, (3,), (2,), (0,)), t.fn(lambda h: h[:, :, :18]), t.nn.ReLU(), t.nn.Flatten(),
                    t.lin(18 * t.w, t.out)),
    lambda s: s.serial(s.CT((3,), (2,), "SAME"), s.Relu(), s.Flatten(), s.D()))  # fmt: skip
add("transposed-2d", ODD,
    lambda t: t.seq(t.transposed(2, t.w, (3, 2), (2, 1), (0, 0)), t.nn.ReLU(), t.fn(lambda h: h.mean((2, 3))),
                    t.lin(t.w, t.out)),
    lambda s: s.serial(s.CT((3, 2), (2, 1), "VALID"), s.Relu(), s.GlobalAvgPool(), s.D()))  # fmt: skip


# On even sizes, jax's padding said in torch
add("conv2d-stride-same-even", IMAGE,
    lambda t: t.seq(t.nn.ZeroPad2d((1, 1, 0, 1)), t.conv(3, t.w, (3, 3), (2, 2), "VALID"), t.nn.ReLU(),
                    t.fn(lambda h: h.mean((2, 3))), t.lin(t.w, t.out)),
    lambda s: s.serial(s.C((3, 3), (2, 2), "SAME"), s.Relu(), s.GlobalAvgPool(), s.D()))  # fmt: skip


# Image networks as in the literature, small
def wide_resnet(t: Any) -> Any:
    def branch(c: int, strides: tuple[int, int]) -> Any:
        first = t.conv(c, t.w, (3, 3), strides, "SAME")
        return t.seq(t.nn.ReLU(), first, t.nn.ReLU(), t.conv(t.w, t.w, *C3))

    def group(strides: tuple[int, int]) -> list[Any]:
        shortcut = t.conv(t.w, t.w, (3, 3), strides, "SAME")
        return [t.add(shortcut, branch(t.w, strides)), t.add(t.same(), branch(t.w, (1, 1)))]

    groups = [*group((1, 1)), *group((2, 2)), *group((2, 2))]
    return t.seq(t.conv(2, t.w, *C3), *groups, t.fn(lambda h: h.mean((2, 3))), t.lin(t.w, t.out))


def stax_wide_resnet(s: Any) -> Any:
    def branch(strides: tuple[int, int]) -> Any:
        return s.serial(s.Relu(), s.C((3, 3), strides, "SAME"), s.Relu(), s.C(*C3))

    def group(strides: tuple[int, int]) -> list[Any]:
        shortcut = s.C((3, 3), strides, "SAME")
        return [s.add(shortcut, branch(strides)), s.add(s.Identity(), branch((1, 1)))]

    return s.serial(s.C(*C3), *group((1, 1)), *group((2, 2)), *group((2, 2)), s.GlobalAvgPool(), s.D())


def myrtle(t: Any) -> Any:
    parts: list[Any] = []
    for number in range(3):
        parts += [t.conv(t.w if number else 2, t.w, *C3), t.nn.ReLU(), t.conv(t.w, t.w, *C3), t.nn.ReLU()]
        parts += [t.nn.AvgPool2d(2)]
    return t.seq(*parts, t.nn.Flatten(), t.lin(t.w, t.out))


def stax_myrtle(s: Any) -> Any:
    parts = [s.C(*C3), s.Relu(), s.C(*C3), s.Relu(), s.AvgPool((2, 2), (2, 2))]
    return s.serial(*parts, *parts, *parts, s.Flatten(), s.D())


add("wide-resnet", NINE, wide_resnet, stax_wide_resnet, law=(2**0.5, 0.0))
add("myrtle", (2, 8, 8), myrtle, stax_myrtle, law=(2**0.5, 0.0))


# Where the two differ
def tied(t: Any, layer: Any) -> Any:
    """Two branches that end in the same layer."""
    branches = [t.seq(t.lin(6, t.w), t.nn.ReLU(), layer) for _ in range(2)]
    return t.seq(t.add(*branches), t.nn.ReLU(), t.lin(t.w, t.out))


SHARED = "the two summands are one value; independence is assumed, with a warning that every sum gets"
add("same-branch-twice", VECTOR,
    lambda t: t.seq(t.lin(6, t.w), t.add(t.same(), t.same()), t.nn.ReLU(), t.lin(t.w, t.out)),
    lambda s: s.serial(s.D(), s.add(s.Identity(), s.Identity()), s.Relu(), s.D()), why=SHARED)  # fmt: skip
add("skip-around-a-pool", ODD,
    lambda t: t.seq(t.conv(2, t.w, *C3), t.add(t.same(), t.nn.AvgPool2d(3, 1, 1)), t.nn.ReLU(),
                    t.fn(lambda h: h.mean((2, 3))), t.lin(t.w, t.out)),
    lambda s: s.serial(s.C(*C3), s.add(s.Identity(), s.AvgPool((3, 3), S3, "SAME")), s.Relu(), s.GlobalAvgPool(),
                       s.D()), why=SHARED)  # fmt: skip
add("gcn-with-self-loop", TOKENS,
    lambda t: t.seq(t.lin(4, t.w), t.add(t.same(), t.fn(lambda h: t.adjacency @ h)), t.nn.ReLU(),
                    t.fn(lambda h: h.mean(1)), t.lin(t.w, t.out)), last=True, graph=True, why=SHARED,
    stax=lambda s: s.serial(s.D(), s.add(s.Identity(), s.Aggregate(1)), s.Relu(), s.GlobalAvgPool(),
                            s.D()))  # fmt: skip
add("tied-branches", VECTOR,
    lambda t: tied(t, t.lin(t.w, t.w)),
    lambda s: s.serial(s.add(s.serial(s.D(), s.Relu(), s.D()), s.serial(s.D(), s.Relu(), s.D())), s.Relu(), s.D()),
    why="one layer in both branches; stax can't say it, and gives each branch its own", **he)  # fmt: skip
add("positions-side-by-side", LINE,
    lambda t: t.seq(t.conv(3, t.w, (3,), (1,), "SAME"), t.fn(lambda h: t.torch.cat([h, h], 2)), t.nn.ReLU(),
                    t.fn(lambda h: h.mean(2)), t.lin(t.w, t.out)),
    lambda s: s.serial(s.C((3,), (1,), "SAME"), s.FanOut(2), s.parallel(s.Identity(), s.Identity()), s.FanInConcat(1),
                       s.Relu(), s.GlobalAvgPool(), s.D()),
    why="one value concatenated with itself along space; independence is assumed, with the same warning")  # fmt: skip
add("product-with-itself", VECTOR,
    lambda t: t.seq(t.lin(6, t.w), t.mul(t.same(), t.same()), t.lin(t.w, t.out)),
    lambda s: s.serial(s.D(), s.mul(s.Identity(), s.Identity()), s.D()), law=(0.9, 0.3),
    why="the factors are one value; independence is assumed, with the same warning")  # fmt: skip
add("gate-of-its-own-input", VECTOR,
    lambda t: t.seq(t.lin(6, t.w), t.mul(t.same(), t.fn(lambda h: 0.5 * t.torch.erf(h / 2.4020563531719796) + 0.5)),
                    t.lin(t.w, t.out)),
    lambda s: s.serial(s.D(), s.mul(s.Identity(), s.Sigmoid_like()), s.D()),
    why="h times a gate of h, which is SiLU's form; independence is assumed, with the same warning")  # fmt: skip
add("post-activation-sum", VECTOR,
    lambda t: t.seq(t.lin(6, t.w), t.nn.ReLU(), t.add(t.same(), t.seq(t.lin(t.w, t.w), t.nn.ReLU())),
                    t.lin(t.w, t.out)),
    lambda s: s.serial(s.D(), s.Relu(), s.add(s.Identity(), s.serial(s.D(), s.Relu())), s.D()),
    why="a sum of post-activations, as in Du et al. 2019: refused there", law=(2**0.5, 0.2))  # fmt: skip
add("gelu-tanh", VECTOR, *mlp(2, lambda t: t.nn.GELU(approximate="tanh"), lambda s: s.Gelu(approximate=True)),
    why="approximate=True changes the finite network only; the kernel stays that of the exact GELU",
    control=mlp(2, lambda t: t.nn.GELU(), lambda s: s.Gelu())[0])  # fmt: skip
add(
    "tanh-quadrature-25-small",
    VECTOR,
    *mlp(2, lambda t: t.nn.Tanh(), lambda s: s.ElementwiseNumerical(s.jnp.tanh, 25)),
    why="the same at sigma_w = 1.3",
    control=mlp(2, lambda t: t.fn(lambda h: t.torch.erf(0.8862 * h)), relu)[0],
)
for number in (10, 25, 100):
    add(f"tanh-quadrature-{number}", VECTOR,
        *mlp(2, lambda t: t.nn.Tanh(), lambda s, deg=number: s.ElementwiseNumerical(s.jnp.tanh, deg)),
        law=(3.0, 0.4), why=f"ElementwiseNumerical with deg={number}; its error is not reported",
        control=mlp(2, lambda t: t.fn(lambda h: t.torch.erf(0.8862 * h)), lambda s: s.Erf())[0])  # fmt: skip
add("relu-quadrature-25", VECTOR,
    *mlp(2, lambda t: t.nn.ReLU(), lambda s: s.ElementwiseNumerical(lambda h: s.jnp.maximum(h, 0.0), 25)),
    why="ElementwiseNumerical on a kink; not recommended there, not refused")  # fmt: skip
add("hermite-2", VECTOR, *mlp(1, lambda t: t.fn(lambda h: (h**2 - 1) / 2**0.5), lambda s: s.Hermite(2)), law=(1.4, 0.3),
    why="Hermite assumes variance 1, with a warning")  # fmt: skip
add("stride-same-even", IMAGE,
    lambda t: t.seq(t.conv(3, t.w, (3, 3), (2, 2), "SAME"), t.nn.ReLU(), t.fn(lambda h: h.mean((2, 3))),
                    t.lin(t.w, t.out)),
    lambda s: s.serial(s.C((3, 3), (2, 2), "SAME"), s.Relu(), s.GlobalAvgPool(), s.D()),
    why="a convention: jax pads 0 before and 1 after on even sizes, torch's padding=1 on both sides")  # fmt: skip
