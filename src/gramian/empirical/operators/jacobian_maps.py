"""The Jacobian of a module on some samples as two maps, to the parameters and back."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gramian.empirical.jacobian_products.pullback import pulled_back
from gramian.empirical.jacobian_products.pushforward import BACKWARD, EACH, FORWARD, along, checked_way
from gramian.empirical.modules import checks
from gramian.empirical.modules.arguments import Samples
from gramian.empirical.modules.calling import call_at, lent
from gramian.empirical.modules.composed_outputs import own_name
from gramian.empirical.modules.gradient_hooks import checked_backward
from gramian.empirical.modules.observed_calls import differentiable_math
from gramian.empirical.modules.plain_gradients import differs, marks, tolerance
from gramian.empirical.modules.trial_passes import try_module
from gramian.empirical.operators.distributed import Share
from gramian.errors import GramianError
from gramian.module_state.untouched import MOST_COPIED_BYTES

# bytes of parameters up to which each product of a module that writes into nothing copies them: `Derivative._most`
COPIED_IF_QUIET = 2**20


class Derivative:
    r"""The Jacobian $J$ of a module's outputs on some samples, as two maps; samples in chunks of bounded memory.

    Attributes:
        counts: samples of each process; one number without a group.
        n_outputs: outputs of a sample, C.
        theta: the trainable parameters, by name.
        way: how J u is had, one of `forward.WAYS`.
        apart: J^T v is had from each sample on its own, since torch's backward pass of a batch is another.
        why_twice_backward: empty where forward mode works; else what speaks against it.
    """

    def __init__(self, module: nn.Module, x: Samples, share: Share, max_bytes: int) -> None:
        self.module, self.share = module, share
        self.theta = checks.trainable(module)
        problem: GramianError | None = None
        self.n_outputs, self.dtype, self.quiet = 0, torch.float32, False
        self.way, self.apart, self.why_twice_backward = FORWARD, False, ""
        try:
            checks.check_options("full", max_bytes)
            checks.check_mode(module)
            checks.check_counts(module)
            self.x = checks.check_samples("x", x)
            with lent(module) as loan, differentiable_math():
                out, saved = try_module(module, "x", self.x)
                backward = checked_backward(module, self.x[:1])
                backward.check_places(module)
                self.n_outputs, self.dtype = out.numel(), out.dtype
                self.chunk = max(1, max_bytes // max(1, saved))
                self._choose(backward.altered)
            self.quiet = loan is not None and not loan.written
        except GramianError as error:
            problem = error
        share.agree(problem)
        share.same(self.theta.values())
        self.counts = share.counts(len(x))

    def _choose(self, against: str) -> None:
        """The ways that agree with plain backward passes of single samples, on the first samples."""
        n = min(len(self.x), 2 if self.n_outputs == 3 else 3)  # not as many as outputs
        rows = self.x[:n]
        v = torch.randn(n, self.n_outputs, generator=torch.Generator().manual_seed(0)).to(self.device, self.dtype)
        with differentiable_math():
            total = self._pulled(rows[:1], v[:1])
            for i in range(1, n):
                for name, g in self._pulled(rows[i : i + 1], v[i : i + 1]).items():
                    total[name] += g
            whole = marks(list(self._pulled(rows, v).values()))
            self.apart = bool(differs(whole, marks(list(total.values())), tolerance(self.dtype)))
            self.way, self.why_twice_backward = checked_way(self.module, self._here(), rows, (v, total), against)
        if self.way == BACKWARD:  # the graph of a derivative holds about four times what the graph of a value does
            self.chunk = max(1, self.chunk // 4)
        if self.apart or self.way == EACH:
            self.chunk = 1

    def _pulled(self, rows: Samples, v: Tensor) -> dict[str, Tensor]:
        """J^T v of some samples, by one backward pass."""
        grads = pulled_back(lambda: call_at(self.module, {}, rows), v, list(self.theta.values()))
        return dict(zip(self.theta, grads, strict=True))

    @property
    def device(self) -> torch.device:
        return next(iter(self.theta.values())).device

    @property
    def rows(self) -> int:
        """Samples times outputs, of all processes."""
        return sum(self.counts) * self.n_outputs

    @property
    def n_parameters(self) -> int:
        return sum(t.numel() for t in self.theta.values())

    def pull(self, v: Tensor) -> dict[str, Tensor]:
        """J^T v, summed over all processes, by the parameter's name; `v` has a number for each output, (n, C)."""
        wide = {name: torch.promote_types(p.dtype, torch.float32) for name, p in self.theta.items()}
        total = {name: torch.zeros_like(p, dtype=wide[name]).detach() for name, p in self.theta.items()}
        v = self.share.mine(v, self.counts)
        with lent(self.module, self.quiet, self._most), differentiable_math():
            for rows in self._chunks():
                for name, g in self._pulled(self.x[rows], v[rows]).items():
                    total[name] += g
        self.share.add(total.values())
        checks.check_product(self.module, total.values(), (v,))
        return total

    def push(self, u: dict[str, Tensor]) -> Tensor:
        """J u, for the samples of all processes; shape (n, C)."""
        with (
            lent(self.module, self.quiet, self._most),
            differentiable_math(),
            torch.no_grad(),
        ):  # no fused attention, nothing compiled, and no graph
            here, step = self._here(), {name: u[name].to(p) for name, p in self.theta.items()}
            parts = [self._pushed(here, step, self.x[rows]) for rows in self._chunks()]
            out = self.share.gather(torch.cat(parts), self.counts)
            checks.check_product(self.module, (out,), u.values())
            return out

    def _pushed(self, at: dict[str, Tensor], step: dict[str, Tensor], rows: Samples) -> Tensor:
        """J u of a chunk; in a branch that the first samples did not take the way that they allowed may fail."""
        try:
            change = along(self.module, at, step, rows, way=self.way)[1]
        except (GramianError, torch.OutOfMemoryError):
            raise
        except (RuntimeError, NotImplementedError):
            change = along(self.module, at, step, rows, way=EACH)[1]
        return change.reshape(-1, self.n_outputs)

    @property
    def _most(self) -> int:
        """Bytes of parameters up to which each product copies them: of more it would take a tenth of its time."""
        if self.quiet:
            return COPIED_IF_QUIET
        return MOST_COPIED_BYTES

    def named(self, u: dict[str, Tensor]) -> dict[str, Tensor]:
        """The same with the names of the user's module."""
        return {own_name(name, self.module): t for name, t in u.items()}

    def said(self) -> str:
        """Size and mode, for a printed operator."""
        p, ranks = self.n_parameters, self.share.size
        return f"{p:,} parameters, {self.way}" + (f", {ranks} processes" if self.share.group is not None else "")

    def _here(self) -> dict[str, Tensor]:
        return {name: p.detach() for name, p in self.theta.items()}

    def _chunks(self) -> Iterator[slice]:
        return (slice(i, i + self.chunk) for i in range(0, len(self.x), self.chunk))
