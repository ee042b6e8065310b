"""The empirical tangent kernel and the Gauss-Newton matrix as linear operators: products, and never the matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor, nn

from gramian.arch.inputs import Inputs
from gramian.empirical.contraction.ntk import empirical_ntk
from gramian.empirical.modules import checks
from gramian.empirical.modules.arguments import inputs_of, samples
from gramian.empirical.modules.composed_outputs import Outputs, composed, unwrapped
from gramian.empirical.operators.distributed import Share
from gramian.empirical.operators.jacobian_maps import Derivative
from gramian.errors import BadArgument, BadData


class EmpiricalNTK:
    r"""The empirical tangent kernel as a linear operator: products with vectors, never the matrix.

    $\hat\Theta v = J_x J_y^\top v$: one backward pass gives $J_y^\top v$, one pass of forward-mode differentiation
    pushes it to the outputs on `x`. A product costs a few evaluations of the module on the data, whatever the number
    of rows. Memory: about five vectors of the parameters' size and `max_bytes`; neither n x p nor n x n numbers.

    `operator @ v` takes a tensor (columns,) or (columns, k); `to_scipy()` gives scipy's `LinearOperator`. Eigenvalues,
    trace, log-determinant, spectral density and condition number of it are functions of `gramian.gram`.

    Args:
        module: any module that treats samples on their own; its parameters are read at each product.
        x: inputs of the rows; shape (n, *in_shape). Of a module that takes several a tuple, or a dict by name.
        x2: inputs of the columns; None: the same as `x`.
        outputs: "full": one row for each sample and output, row $i C + c$; "sum" and "mean": one row for each sample,
            $\sum_c$ or $\frac1C \sum_c$ of $\langle\nabla f_c(x_i), \nabla f_c(x_j)\rangle$, at C times the cost;
            a callable takes the module's output for a batch of one, (1, ...), and gives what to differentiate in its
            place, a margin say: a scalar or a vector, one row for each of its numbers and each sample.
        max_bytes: bound on what a chunk of samples keeps for its backward pass, in bytes; at least one sample's.
        group: process group of torch.distributed, on each of whose processes `x` and `x2` are that process's share.
            The operator is then the one of all samples together, in the order of the ranks, and vectors are whole on
            each process; what is summed over processes are vectors of the parameters. All processes must do the same
            products.

    Attributes:
        shape: rows and columns.
        dtype, device: of the module's outputs and of its parameters.
        why_twice_backward: empty, or why the forward-mode pass is replaced by two backward passes: an operation of
            the module has no forward-mode derivative.

    Raises:
        BadData: an input is empty or not finite, or the module cannot take it.
        BadArgument: nothing trainable; a random or batch-mixing module; unknown `outputs`; processes that differ.

    References:
        Jacot et al. 2018, arXiv:1806.07572; Pearlmutter 1994, 'Fast exact multiplication by the Hessian'.

    Example:
        >>> x = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
        >>> theta = EmpiricalNTK(torch.nn.Linear(2, 1, bias=False), x)
        >>> theta
        EmpiricalNTK(2 x 2, outputs='full', 2 parameters, forward mode)
        >>> theta @ torch.tensor([1.0, 0.0])
        tensor([5., 3.])
    """

    def __init__(
        self,
        module: nn.Module,
        x: Inputs,
        x2: Inputs | None = None,
        outputs: Outputs = "full",
        *,
        max_bytes: int = 2**30,
        group: Any | None = None,
    ) -> None:
        module = unwrapped(module)
        rows, rows2 = samples(module, x, x2)
        module, self.outputs = composed(module, outputs)
        share = Share(group, next(iter(checks.trainable(module).values())).device)
        self.left = Derivative(module, rows, share, max_bytes)
        if rows2 is None:
            self.right = self.left
        else:
            self.right = Derivative(module, rows2, share, max_bytes)
        if self.right.n_outputs != self.left.n_outputs:
            raise BadData(
                f"The module has {self.right.n_outputs} outputs on a sample of `x2`, {self.left.n_outputs} of `x`.",
                where="EmpiricalNTK(module, x, x2)",
                why="the number of outputs follows the size of the input",
                fix="inputs of one size, or a module that averages over positions",
            )

    @property
    def symmetric(self) -> bool:
        """Rows and columns are the same samples."""
        return self.left is self.right

    @property
    def shape(self) -> tuple[int, int]:
        each = 1
        if self.outputs == "full":
            each = self.left.n_outputs
        return sum(self.left.counts) * each, sum(self.right.counts) * each

    @property
    def rank_bound(self) -> int:
        """No more eigenvalues than this are non-zero: the number of parameters, or of rows."""
        each = 1
        if self.outputs != "full":
            each = self.left.n_outputs  # a sum of C kernels has up to C times the rank
        return min(*self.shape, each * self.left.n_parameters)

    @property
    def dtype(self) -> torch.dtype:
        return self.left.dtype

    @property
    def device(self) -> torch.device:
        return self.left.device

    @property
    def why_twice_backward(self) -> str:
        return self.left.why_twice_backward

    @property
    def mT(self) -> EmpiricalNTK:
        """The transpose: rows of `x2`, columns of `x`."""
        other = object.__new__(EmpiricalNTK)
        other.left, other.right, other.outputs = self.right, self.left, self.outputs
        return other

    def __matmul__(self, v: Tensor) -> Tensor:
        """Products, a column at a time; (columns,) -> (rows,) or (columns, k) -> (rows, k), on the device of `v`."""
        v = torch.as_tensor(v)
        if v.ndim not in (1, 2) or len(v) != self.shape[1]:
            raise BadArgument(
                f"a tangent kernel {self.shape} times a tensor {tuple(v.shape)}",
                where="EmpiricalNTK @ v",
                why=f"it has {self.shape[1]} columns",
                fix=f"a tensor of shape ({self.shape[1]},) or ({self.shape[1]}, k)",
            )
        dtype = torch.promote_types(self.dtype, v.dtype)
        columns = [self._times(column).to(v.device, dtype) for column in v.detach().reshape(len(v), -1).mT]
        if columns:
            out = torch.stack(columns, 1)
        else:
            out = v.new_zeros(self.shape[0], 0, dtype=dtype)
        return out.reshape(self.shape[0], *v.shape[1:])

    def _times(self, v: Tensor) -> Tensor:
        v = v.to(self.device)
        c = self.left.n_outputs
        if self.outputs == "full":
            return self.left.push(self.right.pull(v.reshape(-1, c))).reshape(-1)
        # J_x J_y^T of one output at a time: other pairs of outputs do not belong to the sum
        total = torch.zeros(self.shape[0], dtype=self.dtype, device=self.device)
        for k in range(c):
            weight = v.new_zeros(len(v), c)
            weight[:, k] = v
            total += self.left.push(self.right.pull(weight))[:, k]
        if self.outputs == "mean":
            return total / c
        return total

    def pull(self, v: Tensor) -> dict[str, Tensor]:
        r"""$J_y^\top v$ by the parameter's name: the gradient of $\sum_{ic} v_{ic} f_c(y_i)$.

        Of an eigenvector v with eigenvalue $\lambda$ it is the direction of the parameters that moves it, times
        $\sqrt\lambda$: an eigenvector of the Gauss-Newton matrix.

        Args:
            v: a number for each row of outputs="full"; shape (n C,).
        """
        v = _vector(v, self.right.rows, "EmpiricalNTK.pull(v)").to(self.device)
        return self.right.named(self.right.pull(v.reshape(-1, self.right.n_outputs)))

    def gauss_newton(self) -> GaussNewton:
        """J^T J of the same samples and outputs: the same non-zero eigenvalues as with outputs="full"."""
        if not self.symmetric:
            raise BadArgument(
                "the Gauss-Newton matrix of a kernel between two sets of samples",
                where="EmpiricalNTK(module, x, x2).gauss_newton()",
                why="it is a sum over one set",
                fix="EmpiricalNTK(module, x).gauss_newton()",
            )
        return GaussNewton._of(self.left)

    def dense(self, *, max_bytes: int = 2**30) -> Tensor:
        """The whole matrix, by `empirical_ntk`; shape (rows, columns). Over processes: by products."""
        if self.left.share.group is not None:
            return self @ torch.eye(self.shape[1], dtype=self.dtype, device=self.device)
        if self.symmetric:
            x2 = None
        else:
            x2 = inputs_of(self.right.x)
        theta = empirical_ntk(self.left.module, inputs_of(self.left.x), x2, str(self.outputs), max_bytes=max_bytes)
        if self.outputs == "full":
            return theta.permute(0, 2, 1, 3).reshape(self.shape)
        return theta

    def to_scipy(self) -> LinearOperator:
        """scipy's `LinearOperator` in float64, with its transpose: for `eigsh`, `svds`, `lobpcg`, `cg`, ...

        Example:
            >>> from scipy.sparse.linalg import eigsh
            >>> theta = EmpiricalNTK(torch.nn.Linear(2, 1, bias=False), torch.eye(2).repeat(3, 1))
            >>> eigsh(theta.to_scipy(), k=1, return_eigenvectors=False).round(6)
            array([3.])
        """
        return _to_scipy(self, self.mT)

    def __repr__(self) -> str:
        return f"EmpiricalNTK({self.shape[0]} x {self.shape[1]}, outputs={self.outputs!r}, {self.left.said()})"


class GaussNewton:
    r"""The Gauss-Newton matrix $J^\top J$ of the squared loss $\tfrac12 \sum_{ic} (f_c(x_i) - y_{ic})^2$, an operator.

    Its non-zero eigenvalues are those of the tangent kernel $J J^\top$ over the same samples and outputs. For a loss
    averaged over the samples divide by their number.

    Args:
        module, x, max_bytes, group: as of `EmpiricalNTK`.
        outputs: "full", or a callable.

    Attributes:
        shape: (p, p); the p numbers are the trainable parameters, each flattened, in the order of `named_parameters`.

    Raises:
        BadData, BadArgument: as `EmpiricalNTK`.

    References:
        Schraudolph 2002, 'Fast curvature matrix-vector products for second-order gradient descent'.

    Example:
        >>> x = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
        >>> GaussNewton(torch.nn.Linear(2, 1, bias=False), x) @ torch.tensor([1.0, 0.0])
        tensor([10.,  2.])
    """

    symmetric = True

    def __init__(
        self,
        module: nn.Module,
        x: Inputs,
        outputs: Outputs = "full",
        *,
        max_bytes: int = 2**30,
        group: Any | None = None,
    ) -> None:
        module = unwrapped(module)
        rows, _ = samples(module, x, None)
        module, kind = composed(module, outputs)
        if kind != "full":
            raise BadArgument(
                f"`outputs` is {outputs!r}; the Gauss-Newton matrix is a sum over all outputs.",
                where="GaussNewton(..., outputs=...)",
                why="only outputs='full', or a callable of the outputs, has a Jacobian with one row for each",
                fix='outputs="full"; divide by the number of outputs for their mean',
            )
        share = Share(group, next(iter(checks.trainable(module).values())).device)
        self._take(Derivative(module, rows, share, max_bytes))

    @classmethod
    def _of(cls, derivative: Derivative) -> GaussNewton:
        operator = object.__new__(cls)
        operator._take(derivative)
        return operator

    def _take(self, derivative: Derivative) -> None:
        p = derivative.n_parameters
        self.derivative, self.shape = derivative, (p, p)
        self.rank_bound = min(p, derivative.rows)
        self.dtype, self.device = derivative.dtype, derivative.device

    def __matmul__(self, v: Tensor) -> Tensor:
        """Products, a column at a time; (p,) -> (p,) or (p, k) -> (p, k), on the device of `v`."""
        v = torch.as_tensor(v)
        if v.ndim == 2:
            if v.shape[1]:
                return torch.stack([self @ column for column in v.mT], 1)
            return v.clone()
        u = self.derivative.pull(self.derivative.push(self._split(v)))
        return torch.cat([g.reshape(-1) for g in u.values()]).to(v.device, torch.promote_types(self.dtype, v.dtype))

    def split(self, v: Tensor) -> dict[str, Tensor]:
        """A vector of p numbers as tensors of the parameters' shapes, by the parameter's name."""
        return self.derivative.named(self._split(v))

    def _split(self, v: Tensor) -> dict[str, Tensor]:
        theta = self.derivative.theta
        flat = _vector(v, self.shape[0], "GaussNewton @ v").to(self.device)
        parts = flat.split([p.numel() for p in theta.values()])
        return {name: part.reshape(p.shape) for part, (name, p) in zip(parts, theta.items(), strict=True)}

    def to_scipy(self) -> LinearOperator:
        """scipy's `LinearOperator` in float64."""
        return _to_scipy(self, self)

    def __repr__(self) -> str:
        return f"GaussNewton({self.shape[0]} x {self.shape[1]}, {self.derivative.said()})"


def _vector(v: Tensor, n: int, where: str) -> Tensor:
    v = torch.as_tensor(v).detach()
    if v.shape != (n,):
        raise BadArgument(
            f"a vector of {n} numbers is needed; this one has shape {tuple(v.shape)}",
            where=where,
            why="the operator has a column for each of them",
            fix=f"a tensor of shape ({n},)",
        )
    return v


def _to_scipy(operator: EmpiricalNTK | GaussNewton, transposed: EmpiricalNTK | GaussNewton) -> LinearOperator:
    def times(a: EmpiricalNTK | GaussNewton):
        return lambda v: (a @ torch.from_numpy(np.ascontiguousarray(v, dtype=np.float64)).reshape(-1)).numpy()

    # `matmat` is left to scipy, which takes the columns one by one, as we do
    return LinearOperator(operator.shape, matvec=times(operator), rmatvec=times(transposed), dtype=np.float64)
