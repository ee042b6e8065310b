"""What all activations share: the dual, which maps the covariances of a Gaussian to those of its image."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from gramian.arch.moments import Moments
from gramian.arch.ops.base import Call, Op, Value, value
from gramian.duals.activation_gap import gap_of_image
from gramian.duals.covariance_gap import safe_sqrt
from gramian.duals.derivatives import wanted
from gramian.errors import NoLimit


@dataclass(frozen=True)
class Activation(Op):
    r"""An elementwise function of Gaussian values.

    $K' = E[\phi(u)\phi(v)]$, $\dot K = E[\phi'(u)\phi'(v)]$ for $(u, v) \sim N(0, [[q_1, k], [k, q_2]])$, and
    $\Theta' = \Theta \dot K$ (Jacot et al. 2018, arXiv:1806.07572). A subclass gives `phi`, `dual` and `mean`.
    """

    any_layout: ClassVar[bool] = True
    form: ClassVar[str] = "closed form"  # how its dual is computed
    any_groups: ClassVar[bool] = True
    each_channel: ClassVar[bool] = True
    nonsmooth: ClassVar[bool] = False  # whether its dual has a square root at correlation 1, as a kink or jump makes it
    jumps: ClassVar[bool] = False  # whether the function itself jumps
    integrated: ClassVar[bool] = False  # whether its dual is integrals by quadrature
    by_series: ClassVar[bool] = False  # whether its dual is the Hermite series of `phi`
    homogeneous: ClassVar[bool] = False  # whether phi(a x) is a power of a times phi(x) for a > 0

    @classmethod
    def read(cls, call: Call) -> tuple[Op, tuple[Value, ...]]:
        return cls(*cls.settings(*call.args[1:])), (value(call.args[0], "the input of this activation"),)

    @classmethod
    def settings(cls, *args: Any) -> tuple[Any, ...]:
        """The op's fields, from the aten call's further arguments."""
        return ()

    def phi(self, x: Tensor) -> Tensor:
        """The function itself."""
        raise NotImplementedError

    def dual(self, q1: Tensor, k: Tensor, q2: Tensor) -> tuple[Tensor, Tensor]:
        r"""$(E\,\phi(u)\phi(v),\ E\,\phi'(u)\phi'(v))$ at variances `q1`, `q2` and covariance `k`; shapes broadcast."""
        raise NotImplementedError

    def dual_at_gap(
        self, q1: Tensor, k: Tensor, q2: Tensor, gap: Tensor, opposite: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        r"""`dual` where $g = \sqrt{q_1 q_2} - k$ is known to more digits than k has, and g of its first result.

        `opposite` is $\sqrt{q_1 q_2} + k$, where that is known.

        A `nonsmooth` activation gives this; None for a gap that the general way finds, `gap_of_image`.
        """
        return *self.dual(q1, k, q2), None

    def untabulated_dual(self, q1: Tensor, k: Tensor, q2: Tensor, gap: Tensor) -> tuple[Tensor, Tensor]:
        """`dual_at_gap` without its gap, and never from a table: what tables are made of."""
        return self.dual_at_gap(q1, k, q2, gap)[:2]

    def closed_coefficients(self, q: Tensor) -> Tensor | None:
        r"""$a_r = E\,\phi(\sqrt q\,z)\,h_r(z)$, shape (terms, n) for q of shape (n,); None without a closed form."""
        return None

    @property
    def kinks(self) -> tuple[float, ...]:
        """Where the quadrature of its dual must be divided; empty for a dual in closed form."""
        return ()

    def own_dual(self, q: Tensor) -> tuple[Tensor, Tensor]:
        r"""$E\,\phi(u)^2$ and $E\,\phi'(u)^2$, differentiable in q: `dual` of one value with itself."""
        return self.dual(q, q, q)

    def scale_dual(self, q1: Tensor, k: Tensor, q2: Tensor) -> Tensor:
        r"""$E\,u\phi'(u)\,v\phi'(v)$: what a scale per channel below adds to the NTK.

        It is $\partial_a \partial_b\, E\,\phi(a u)\,\phi(b v)$ at $a = b = 1$, of the dual in closed form. It is made
        of products of three variances and more, which in float32 overflow from inputs of norm 1e6.
        """
        dtype = k.dtype
        q1, k, q2 = torch.broadcast_tensors(q1.double(), k.double(), q2.double())
        graph = any(t.requires_grad for t in (q1, k, q2))
        with torch.enable_grad():
            a, b = torch.ones_like(k).requires_grad_(), torch.ones_like(k).requires_grad_()
            scaled_dual = self.dual(a * a * q1, a * b * k, b * b * q2)[0]
            (once,) = torch.autograd.grad(scaled_dual.sum(), a, create_graph=True)
            (twice,) = torch.autograd.grad(once.sum(), b, create_graph=graph)
        return twice.to(dtype)

    def own_scale(self, q: Tensor) -> Tensor:
        r"""$E\,u^2\phi'(u)^2$: `scale_dual` of one value with itself."""
        return self.scale_dual(q, q, q)

    def mean(self, q: Tensor) -> Tensor | None:
        r"""$E\,\phi(u)$ for $u \sim N(0, q)$; None where it is zero for every q."""
        raise NotImplementedError

    def mean_slope(self, q: Tensor) -> Tensor:
        r"""$E\,\phi'(u)$ for $u \sim N(0, q)$, which is $\partial_k E\,\phi(u) v$ at any v (Stein's lemma)."""
        raise NoLimit(
            f"{self.name} of values is added to values that share their random weights.",
            why="there is no rule for its mean slope here",
            fix="give each branch its own weights; or gramian.monte_carlo(module, x)",
        )

    def apply(self, *x: Tensor) -> Tensor:
        return self.phi(x[0])

    def limit(self, *m: Moments) -> Moments:
        below = m[0]
        self._refuse(below)
        q_x, q_y = below.variances()
        same = below.yy is below.xx
        # One function of all Gaussians: K is the dual at (q1, k, q2), and the NTK below is multiplied by the slopes'
        # kernel.
        xx = self._covariance(below.xx, below.spread_self(q_x))
        q1, q2 = below.spread(q_x, q_y)
        gap, above, opposite = below.gap_size, None, None
        if gap is None:
            xy, kdot = self.dual(q1, below.xy, q2)
        elif self.nonsmooth and wanted(q1, below.xy, q2, gap):
            xy, kdot, above = self._apart(below, q_x)
        else:
            assert below.gap is not None
            xy, kdot, above = self.dual_at_gap(q1, below.xy, q2, gap, below.gap.opposite)
        mean_x = self.mean(q_x)
        if below.theta is None:
            theta = None
        else:
            theta = below.theta * kdot
        if theta is not None and below.scale_rate:
            # a scale per channel below: h_c(x) h_c(y) times both slopes
            theta = theta + below.scale_rate * self.scale_dual(q1, below.xy, q2)
        if same:
            yy = xx
        else:
            yy = self._covariance(below.yy, below.spread_self(q_y))
        if same:
            mean_y = mean_x
        else:
            mean_y = self.mean(q_y)
        image = replace(
            below,
            xx=xx,
            yy=yy,
            xy=xy,
            theta=theta,
            scale_rate=0.0,
            mean_x=mean_x,
            mean_y=mean_y,
            gaussian=False,
        )
        if gap is not None and above is None:
            above = gap_of_image(self, (q1, gap, q2), xy, image.spread(*image.variances()))
        if below.gap is not None and below.gap.opposite is not None and odd(self):  # of u and -v
            opposite = gap_of_image(self, (q1, below.gap.opposite, q2), -xy, image.spread(*image.variances()))
        return image.with_gap(above, opposite)

    def _refuse(self, below: Moments) -> None:
        """Raises NoLimit for values on which the dual says nothing."""
        if not below.gaussian:
            raise NoLimit(
                f"The input of {self.name} is not Gaussian: it comes from another activation, a shift, dropout, or the "
                "data.",
                why="its law over the random weights is then not given by its covariance, and no rule here covers it",
                fix="put a Linear or Conv between; in a residual block, add before activating (pre-activation order, "
                "x + conv(relu(x))); for h + W h of post-activations on vectors, "
                "gramian.limit.allen_zhu_resnet_kernels; or gramian.monte_carlo(module, x)",
            )
        if not below.exchangeable_channels:
            raise NoLimit(
                f"{self.name} acts after a Flatten or a concatenation of channels.",
                why="the channels have different variances, from different positions or parts",
                fix="put the activation before, and after any normalization of each part: elementwise, it computes the "
                "same",
            )
        if below.scale_averaged and below.theta is not None:
            raise NoLimit(
                f"{self.name} acts on a sum of values with a trained scale per channel (BatchNorm, LayerNorm).",
                why="the scale's part of the NTK depends on one summand, the activation's slope on the sum",
                fix="freeze the normalization's scale (weight.requires_grad_(False)), or affine=False",
            )

    def _apart(self, below: Moments, q_x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """`dual_at_gap` to be differentiated: where both values are one, whatever is varied, by that one alone.

        There the kernel is smooth in the variance, but not in the two variances of a pair, and not in their gap.
        """
        assert below.gap is not None
        (q1, q2), k, gap = below.spread(*below.variances()), below.xy, below.gap.size
        one = torch.zeros_like(k, dtype=torch.bool)
        if below.one_sample:
            one = _own_entries(below)
        if below.still:
            one = one | ((gap == 0) & (q1 == q2))
        if not bool(one.any()):
            return self.dual_at_gap(q1, k, q2, gap, below.gap.opposite)
        s = (safe_sqrt(q1) * safe_sqrt(q2)).detach()
        # Entries of one value are moved to correlation 0, where every derivative is finite, and then replaced by
        # `own_dual`.
        away = [torch.where(one, t, v) for t, v in ((torch.zeros_like(k), k), (s, gap))]
        if below.gap.opposite is None:
            opposite = None
        else:
            opposite = torch.where(one, s, below.gap.opposite)
        xy, kdot, above = self.dual_at_gap(q1, away[0], q2, away[1], opposite)
        own = [below.spread(t, t)[0] for t in self.own_dual(q_x)]
        xy, kdot = (torch.where(one, alone, pair) for alone, pair in zip(own, (xy, kdot), strict=True))
        if above is None:
            return xy, kdot, None
        return xy, kdot, torch.where(one, torch.zeros_like(above), above)

    def _covariance(self, k: Tensor, q: tuple[Tensor, Tensor]) -> Tensor:
        return self.dual(q[0], k, q[1])[0]


def _own_entries(m: Moments) -> Tensor:
    """Which entries of `xy` are of one sample and position with itself, where y is x."""
    same = torch.eye(len(m.xx), dtype=torch.bool, device=m.xy.device)
    if m.all_pairs:
        count = math.prod(m.positions)
        here = torch.eye(count, dtype=torch.bool, device=m.xy.device).reshape((*m.positions, *m.positions))
    else:
        here = torch.ones(m.positions, dtype=torch.bool, device=m.xy.device)
    return same.reshape((*same.shape, *(1,) * here.ndim)) & here


@lru_cache(maxsize=256)
def odd(op: Activation) -> bool:
    """Whether the function changes its sign with its argument, to the last bit."""
    x = torch.linspace(0.0, 50.0, 1999, dtype=torch.float64) ** 2 / 50
    with torch.no_grad():
        return bool((op.phi(x) == -op.phi(-x)).all())
