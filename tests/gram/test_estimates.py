"""Traces, log-determinants and densities: exact where they must be, and error bars that cover the truth."""

import pytest
import torch
from matrices import matrix_with

from gramian.errors import BadArgument, GramianError, NotPositive
from gramian.gram import (
    Estimate,
    Gram,
    condition_number,
    extreme_eigenvalues,
    largest_eigenpairs,
    log_determinant,
    spectral_density,
    trace,
)


class ByProducts:
    """A matrix that is only known by its products, and counts them."""

    symmetric = True

    def __init__(self, k):
        self.k, self.products = k, 0
        self.shape, self.dtype = k.shape, k.dtype

    def __matmul__(self, v):
        self.products += 1 if v.ndim == 1 else v.shape[1]
        return (self.k @ v.to(self.k)).to(v)


n = 120
SPECTRA = {
    "flat": torch.linspace(1, 5, n, dtype=torch.float64),
    "power": torch.arange(1, n + 1, dtype=torch.float64).pow(-2),
    "one large": torch.cat([torch.tensor([1e3]), torch.arange(1.0, n).pow(-1)]).double(),
    "singular": torch.cat([torch.zeros(60), torch.linspace(0.1, 3, 60)]).double(),
}


def coverage(estimate, truth, seeds=100):
    hits = [low <= truth <= high for low, high in (estimate(s).interval(0.95) for s in range(seeds))]
    return sum(hits) / seeds


# 100 seeds, 10 probes; a binomial of 0.95 is below 0.87 with probability 0.001
@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("method", ["hutch++", "hutchinson"])
def test_the_error_bar_of_a_trace_covers_it(name, method):
    lam = SPECTRA[name]
    k = matrix_with(lam)
    assert coverage(lambda s: trace(k, products=30, method=method, seed=s), float(lam.sum())) >= 0.87


@pytest.mark.parametrize(("name", "least"), [("flat", 0.87), ("power", 0.85), ("one large", 0.78), ("singular", 0.87)])
def test_the_error_bar_of_a_log_determinant_covers_it(name, least):
    """With one large eigenvalue the estimates are skewed, and an interval of 0.95 covers 0.87: seen over 200 seeds."""
    lam = SPECTRA[name]
    k, ridge = matrix_with(lam), 1e-2 * float(lam.max())
    truth = float((lam + ridge).log().sum())
    assert coverage(lambda s: log_determinant(k, ridge, steps=12, seed=s), truth) >= least


def test_the_standard_error_is_the_spread_over_seeds():
    k = matrix_with(SPECTRA["flat"])
    found = [trace(k, products=20, method="hutchinson", seed=s) for s in range(200)]
    spread = torch.tensor([f.value for f in found]).std()
    said = torch.tensor([f.standard_error for f in found]).square().mean().sqrt()
    assert float(said / spread) == pytest.approx(1, abs=0.15)


def test_hutch_plus_plus_beats_hutchinson_where_few_eigenvalues_dominate():
    k = matrix_with(SPECTRA["one large"])
    plus, plain = trace(k, products=30), trace(k, products=30, method="hutchinson")
    assert 100 * plus.standard_error < plain.standard_error


def test_a_low_rank_or_small_matrix_has_an_exact_trace():
    a = torch.randn(50, 4)
    found = trace(a @ a.mT, products=15)
    assert found.value == pytest.approx(float((a * a).sum()), rel=1e-12)
    assert found.standard_error < 1e-10 * found.value
    k = matrix_with(torch.arange(1.0, 6))
    found = trace(k, products=30)
    assert (found.value, found.standard_error) == (pytest.approx(15.0), 0.0)
    assert found.products == 10


def test_the_quadrature_is_exact_for_polynomials_and_for_full_krylov_spaces():
    lam = SPECTRA["flat"]
    k = matrix_with(lam)
    found = spectral_density(k, steps=6, probes=3, seed=1)
    v = torch.randint(0, 2, (n, 1), generator=torch.Generator().manual_seed(1), dtype=torch.int8).double() * 2 - 1
    for power in range(12):  # degree 2 * 6 - 1
        exact = (v.mT @ torch.linalg.matrix_power(k, power) @ v).item() / n
        assert float(found.weights[0] @ found.nodes[0] ** power) == pytest.approx(exact, rel=1e-10)
    whole = spectral_density(k[:20, :20], steps=30, probes=2)
    assert not whole.tails.any()
    torch.testing.assert_close(whole.nodes[0], torch.linalg.eigvalsh(k[:20, :20]))
    assert whole.trace_of(torch.exp).bracket == 0
    assert spectral_density(k, steps=3).trace_of(torch.exp).bracket != 0


@pytest.mark.parametrize("steps", [2, 4, 8, 16])
@pytest.mark.parametrize("name", SPECTRA)
def test_the_brackets_hold_the_exact_quadratic_form(name, steps):
    """Gauss above and Gauss-Radau below, for one probe: no statistics in it."""
    lam = SPECTRA[name]
    k, ridge = matrix_with(lam), 1e-3
    found = log_determinant(k, ridge, steps=steps, probes=2, seed=3)
    log = matrix_with((lam + ridge).log())
    v = (
        torch.randint(0, 2, (n, 1), generator=(g := torch.Generator().manual_seed(3)), dtype=torch.int8).double() * 2
        - 1
    )
    w = torch.randint(0, 2, (n, 1), generator=g, dtype=torch.int8).double() * 2 - 1
    exact = float(((v.mT @ log @ v) + (w.mT @ log @ w)) / 2)
    assert abs(found.value - exact) <= found.bracket + 1e-7 * abs(exact)
    shorter = log_determinant(k, ridge, steps=steps // 2, probes=2, seed=3)
    assert found.bracket < shorter.bracket


def test_the_density_and_its_cumulative_are_those_of_the_eigenvalues():
    lam = torch.cat([torch.full((30,), 1.0), torch.full((90,), 100.0)]).double()
    found = spectral_density(matrix_with(lam), steps=10, probes=40)
    share, error = found.cumulative(torch.tensor([0.5, 10.0, 200.0]))
    assert share[[0, 2]].tolist() == pytest.approx([0, 1])
    assert abs(float(share[1]) - 0.25) < 4 * float(error[1]) < 0.15
    at = torch.linspace(-1, 3, 401)
    density, _ = found.density(at, 0.1, log=True)
    assert float(torch.trapezoid(density, at)) == pytest.approx(1, abs=1e-6)
    assert float(torch.trapezoid(density[at < 1], at[at < 1])) == pytest.approx(float(share[1]), abs=1e-6)
    at = torch.linspace(-50, 150, 2001)
    assert float(torch.trapezoid(found.density(at, 2.0)[0], at)) == pytest.approx(1, abs=1e-6)
    assert found.trace_of(torch.ones_like).value == pytest.approx(n)
    assert repr(found).startswith("SpectralDensity(120 eigenvalues from 1 to 100, 40 probes, ")


@pytest.mark.parametrize("name", SPECTRA)
def test_both_ends_by_products_alone(name):
    lam = SPECTRA[name].sort().values
    operator = ByProducts(matrix_with(lam))
    low, high = extreme_eigenvalues(operator, k=2)
    torch.testing.assert_close(high, lam[-2:], rtol=1e-9, atol=0)
    torch.testing.assert_close(low, lam[:2], rtol=0, atol=1e-9 * float(lam[-1]))
    values, vectors = largest_eigenpairs(operator, k=3)
    torch.testing.assert_close(operator @ vectors, vectors * values, rtol=0, atol=1e-7 * float(lam[-1]))


@pytest.mark.parametrize("rows", [5, 300])
def test_the_condition_number(rows):
    lam = torch.linspace(1, 50, rows)
    k = matrix_with(lam)
    assert condition_number(k) == pytest.approx(50, rel=1e-7)
    assert condition_number(ByProducts(k), ridge=6.0) == pytest.approx(8, rel=1e-7)
    lam[:2] = 0
    assert condition_number(ByProducts(matrix_with(lam))) == float("inf")


def test_a_gram_matrix_in_tiles_is_an_operator_too():
    x = torch.randn(100, 3)
    gram = Gram(lambda x, y=None: torch.exp(-torch.cdist(x, x if y is None else y)), x, tile=32)
    assert trace(gram, products=90).interval(0.999)[0] <= 100 <= trace(gram, products=90).interval(0.999)[1]
    dense = log_determinant(gram.dense(), 0.1)
    assert log_determinant(gram, 0.1).value == pytest.approx(dense.value, rel=1e-9)


def test_float32_operators_say_what_they_reach():
    k = matrix_with(SPECTRA["power"]).float()
    assert trace(k, products=45).value == pytest.approx(float(SPECTRA["power"].sum()), rel=1e-2)
    low, high = extreme_eigenvalues(ByProducts(k), k=1)
    assert float(high[0]) == pytest.approx(1, rel=1e-5)
    assert abs(float(low[0])) < 1e-4
    assert condition_number(ByProducts(k)) == float("inf") or condition_number(ByProducts(k)) > 1e3


def test_seeds_decide_and_the_callers_random_state_stays():
    k = matrix_with(SPECTRA["flat"])
    before = torch.random.get_rng_state()
    assert trace(k, seed=1) == trace(k, seed=1) != trace(k, seed=2)
    spectral_density(k)
    assert torch.equal(before, torch.random.get_rng_state())


def test_what_is_printed():
    assert str(Estimate(1234.5678, 0.123, 10, 40)) == "1234.57 ± 1.2e-01, 10 probes, 40 products"
    assert "± 2.0e-03 (quadrature)" in str(Estimate(1.0, 0.1, 10, 40, 2e-3))
    assert Estimate(1.0, 0.0, 10, 40, 0.5).interval() == (0.5, 1.5)


def test_what_is_refused():
    k = matrix_with(SPECTRA["flat"])
    with pytest.raises(BadArgument, match=r"(?s)shape \(120, 7\) is not a symmetric matrix.*fix: EmpiricalNTK"):
        trace(k[:, :7])
    with pytest.raises(BadArgument, match=r"(?s)shape \(120, 120\).*rows and columns are different"):
        spectral_density(Gram(lambda x, y: x @ y.mT, torch.randn(120, 2), torch.randn(120, 2)))
    with pytest.raises(BadArgument, match=r"(?s)method='hutch'.*fix: one of 'hutch\+\+', 'hutchinson'"):
        trace(k, method="hutch")
    with pytest.raises(BadArgument, match=r"(?s)probes=1.*at least two independent"):
        spectral_density(k, probes=1)
    with pytest.raises(BadArgument, match=r"(?s)steps=0"):
        spectral_density(k, steps=0)
    with pytest.raises(BadArgument, match=r"(?s)ridge=0.0, lambda_min=0.0: their sum must be positive.*fix: ridge="):
        log_determinant(k)
    assert log_determinant(k, lambda_min=1.0).bracket < 1e-3
    with pytest.raises(NotPositive, match=r"(?s)`operator` \(120 x 120.*smallest eigenvalue -.*fix:.*ridge="):
        log_determinant(k - 3 * torch.eye(n), ridge=1e-3)
    with pytest.raises(BadArgument, match="width=0"):
        spectral_density(k).density(torch.zeros(1), 0)
    with pytest.raises(BadArgument, match="confidence=2"):
        trace(k).interval(2)
    with pytest.raises(BadArgument, match="k=0 eigenvalues of a 120 x 120 matrix"):
        largest_eigenpairs(k, 0)
    clustered = ByProducts(matrix_with(torch.cat([1 - 1e-9 * torch.rand(200), torch.rand(100) / 2])))
    with pytest.raises(
        GramianError, match=r"(?s)Lanczos found \d of 2 extreme.*in \d+ products.*fix: max_products=300"
    ):
        largest_eigenpairs(clustered, 2, tol=1e-14, max_products=30)
