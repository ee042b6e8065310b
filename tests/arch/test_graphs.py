"""Matrices on the positions: a graph for each sample, sparse ones, positions of their own covariance."""

import warnings

import pytest
import torch
from layers import A, Net, linear
from nets import relu_dual
from structured import LONG, Graphs, graphs
from torch import nn

from gramian import architecture, monte_carlo
from gramian.errors import BadData, NoLimit

W, LAW = 6, (1.3, 0.3)


class Nodes(nn.Module):
    """One layer, the edges, an activation, again; what is read of the nodes is left open."""

    def __init__(self, matrix=None):
        super().__init__()
        self.a, self.b = nn.Linear(3, W), nn.Linear(W, W)
        self.register_buffer("matrix", matrix)

    def forward(self, x, matrix=None):
        matrix = self.matrix if matrix is None else matrix
        h = torch.relu(matrix @ self.a(x))
        return (h + matrix @ self.b(h)).transpose(1, 2)


def test_graphs_of_each_sample_are_one_graph_without_edges_between_them():
    x, weights = torch.randn(3, LONG, 3), torch.randn(3, LONG, LONG)
    found = architecture(Nodes(), (x, weights), law=LAW)
    whole = Nodes(torch.block_diag(*weights))
    one = architecture(whole, x.reshape(1, -1, 3), law=LAW)
    for k in ("nngp", "ntk"):
        full = getattr(found, k)((x, weights), outputs="full")
        together = getattr(one, k)(x.reshape(1, -1, 3), outputs="full")[0, 0]
        blocks = together.reshape(3, LONG, 3, LONG).transpose(1, 2)
        torch.testing.assert_close(full, blocks, rtol=1e-12, atol=1e-12)


def test_normalized_graphs_are_the_hand_written_recursion():
    x, edges = graphs(4)
    sw, sb = 1.3**2, 0.3**2
    a = edges.double() + torch.eye(LONG)
    root = a.sum(-1) ** -0.5
    a = root[:, :, None] * a * root[:, None]

    def pushed(field):
        return torch.einsum("nij,nmjk,mlk->nmil", a, field, a)

    def diagonals(field):
        q = torch.einsum("nnii->ni", field)
        return q[:, None, :, None], q[None, :, None, :]

    k = sw * torch.einsum("nic,mjc->nmij", x, x) / 3 + sb
    both = a + a @ a  # h + A h, where h = A (W x + b)
    k = torch.einsum("nij,nmjk,mlk->nmil", both, k, both)
    q1, q2 = diagonals(k)
    theta = k
    post, half = relu_dual(q1, k, q2)
    theta, k = sw * theta * half + sw * post + sb, sw * post + sb
    theta, k = pushed(theta), pushed(k)
    q1, q2 = diagonals(k)
    post, half = relu_dual(q1, k, q2)
    expected = sw * post.mean((2, 3)) + sb, sw * (theta * half + post).mean((2, 3)) + sb
    for found, by_hand in zip(architecture(Graphs(), (x, edges), law=LAW).kernels((x, edges)), expected, strict=True):
        torch.testing.assert_close(found, by_hand, rtol=0, atol=1e-6)  # arccos near 1


def csr(a):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls it a beta feature
        return a.to_sparse_csr()


def pushed_columns(net, h):
    """Samples behind the nodes, in one axis with the channels."""
    return torch.sparse.mm(net.m, h.transpose(0, 1).flatten(1)).unflatten(1, (len(h), -1)).transpose(0, 1)


@pytest.mark.parametrize("form", [torch.Tensor.to_sparse, csr, torch.Tensor.to_sparse_csc])
def test_a_sparse_matrix_is_the_dense_one(form):
    class GCN(nn.Module):
        def __init__(self, product, matrix):
            super().__init__()
            self.a, self.b, self.r, self.product = nn.Linear(3, W), nn.Linear(W, W), nn.Linear(W, 1), product
            self.register_buffer("m", matrix)

        def forward(self, x):
            h = torch.relu(self.product(self, self.a(x)))
            return self.r(torch.relu(self.product(self, self.b(h))).mean(1))

    x, matrix = torch.randn(3, 4, 3), A.double()
    dense = architecture(GCN(lambda n, h: n.m @ h, matrix), x, law=LAW).kernels(x)
    ways = [pushed_columns, lambda n, h: n.m.to_dense() @ h,
            lambda n, h: (n.m @ h.permute(1, 2, 0).reshape(4, -1)).view(4, W, len(h)).permute(2, 0, 1)]  # fmt: skip
    for way in ways:
        torch.testing.assert_close(
            architecture(GCN(way, form(matrix)), x, law=LAW).kernels(x), dense, rtol=1e-13, atol=0
        )


def test_positions_times_a_matrix_have_its_covariance():
    """The law says what an entry of the parameter is, not what becomes of it."""
    x, matrix = torch.randn(3, 4, 3), torch.randn(4, 5)

    class Places(nn.Module):
        def __init__(self, form):
            super().__init__()
            self.a, self.r, self.form = nn.Linear(3, W), nn.Linear(W, 1), form
            self.p = nn.Embedding(5, W) if form == "embedding" else nn.Parameter(torch.zeros(5, W))
            self.register_buffer("m", matrix)

        def forward(self, x):
            places = {
                "parameter": lambda: self.m @ self.p,
                "embedding": lambda: self.m @ self.p(torch.arange(5)),
                "row": lambda: (self.m @ self.p)[None],
                "twice": lambda: -self.m @ (-torch.eye(5) @ (2 * self.p)) / 2,
            }[self.form]()
            return self.r(torch.relu(self.a(x) + places).mean(1))

    k = 1.3**2 * torch.einsum("aic,bjc->abij", x, x) / 3 + 0.3**2 + 0.7**2 * matrix @ matrix.T
    q = torch.einsum("aaii->ai", k)
    post, half = relu_dual(q[:, None, :, None], k, q[None, :, None, :])
    expected = (1.3**2 * (k * half + post)).mean((2, 3)) + 0.3**2
    for form in ("parameter", "embedding", "row", "twice"):
        arch = architecture(Places(form), x, law={"p": (0.7, 0.0), "*": LAW})
        torch.testing.assert_close(arch.ntk(x), expected, rtol=0, atol=1e-6)
    drawn = monte_carlo(Places("parameter"), x, law={"p": (0.7, 0.0), "*": LAW}, width=64, draws=40, accuracy=0.5)
    assert float(((drawn.ntk - expected).abs() / drawn.ntk_error).max()) < 5


def test_a_layer_on_fixed_numbers_is_the_same_layer_on_an_input():
    """Sinusoidal encodings through a Linear of their own: what may be added to an embedding of tokens."""
    numbers = torch.randn(4, 7)

    class Encoded(nn.Module):
        def __init__(self, given):
            super().__init__()
            self.a, self.p, self.r, self.given = nn.Linear(3, W), nn.Linear(7, W), nn.Linear(W, 1), given
            self.register_buffer("numbers", numbers)

        def forward(self, x, encoding=None):
            return self.r(torch.relu(self.a(x) + self.p(encoding if self.given else self.numbers)).mean(1))

    x = torch.randn(3, 4, 3)
    fixed = architecture(Encoded(False), x, law=LAW).kernels(x)
    pair = (x, numbers.expand(3, 4, 7).clone())
    given = architecture(Encoded(True), pair, law=LAW).kernels(pair)
    torch.testing.assert_close(fixed, given, rtol=1e-13, atol=0)


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        (lambda n, x: (torch.eye(2) @ n.a(x)[:, 0])[:, None],
         r"fixed matrix multiplies the samples.*x of shape \(n, nodes, features\).*torch.sparse.mm\(A, h.transpose"),
        (lambda n, x: n.a(x) @ (x @ x.mT), r"A matrix of each sample multiplies the channels"),
        (lambda n, x: (x @ x.mT) @ n.a(x).flatten(2)[:, None], r"A matrix of each sample, of shape \(n, 4, 4\), multi"
                                                               r"plies values of shape \(n, 1, 4, 4\).*A\[:, None\]"),
        (lambda n, x: n.a(x) + (torch.rand(4) * n.p), r"computed from parameters.*add"),
        (lambda n, x: n.a(x).transpose(0, 1).flatten(1).relu().unflatten(1, (2, 4)).transpose(0, 1),
         r"merged into one axis.*unflatten"),
    ],
)  # fmt: skip
def test_what_is_no_graph_is_refused(forward, said):
    net = Net(lambda n, x: n.r(forward(n, x).mean(1)), a=linear(3, 4), r=linear(4, 1),
              p=nn.Parameter(torch.zeros(4, 4)))  # fmt: skip
    with pytest.raises(NoLimit, match="(?s)" + said) as error:
        architecture(net, torch.randn(2, 4, 3), law=LAW).ntk(torch.randn(2, 4, 3))
    assert "layers.py" in error.value.where


def test_torchs_own_refusal_of_a_sparse_product_says_how_to_write_it():
    net = Net(lambda n, x: n.r((n.m @ n.a(x)).mean(1)), a=linear(3), r=linear(1 + 11, 1))
    net.register_buffer("m", A.double().to_sparse())
    with pytest.raises(BadData, match=r"(?s)does not run on an input.*fix: .*torch.sparse.mm\(A, h.transpose"):
        architecture(net, torch.randn(2, 4, 3))
