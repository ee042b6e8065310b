"""Error bars of spectral densities and of cumulative shares cover the truth, where the spectrum falls fast too."""

import math

import pytest
import torch
from matrices import matrix_with

from gramian.errors import BadArgument
from gramian.gram import spectral_density

n = 100
SPECTRA = {
    "flat": torch.linspace(1, 5, n, dtype=torch.float64),
    "power": torch.arange(1, n + 1, dtype=torch.float64).pow(-2),
    "exponential": torch.exp(-torch.arange(n, dtype=torch.float64) / 6),
    "one large": torch.cat([torch.tensor([1e3]), torch.arange(1.0, n).pow(-1)]).double(),
    "singular": torch.cat([torch.zeros(50), torch.linspace(0.1, 3, 50)]).double(),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_intervals_cover(name):
    """20 seeds, 12 steps, 10 probes: 0.95 intervals at 54 places, each covered by at least 17 of 20 (0.997 likely)."""
    lam = SPECTRA[name]
    k = matrix_with(lam)
    at = torch.cat([lam.max() * torch.logspace(-8, 0.1, 40), lam[::7] * 1.0001])
    share = (lam <= at[:, None]).double().mean(1)
    decades = at.log10()
    bump = (-0.5 * ((decades[:, None] - lam.clamp(min=1e-300).log10()) / 0.3) ** 2).exp()
    density = bump[:, lam > 1e-12].sum(1) / n / (0.3 * math.sqrt(2 * math.pi))
    hits = torch.zeros(3, len(at))
    for seed in range(20):
        found = spectral_density(k, steps=12, probes=10, seed=seed)
        low, high = found.cumulative_interval(at)
        middle, error = found.cumulative(at)
        seen, off = found.density(decades, 0.3, log=True)
        hits[0] += (low <= share) & (share <= high)
        hits[1] += (middle - share).abs() <= 2 * error + 1e-12
        hits[2] += (seen - density).abs() <= 2 * off + 1e-12
    assert float(hits.min()) >= 17


def test_an_exhausted_krylov_space_has_the_width_of_its_probes_alone():
    lam = torch.cat([torch.ones(300), 4 * torch.ones(100)]).double()
    found = spectral_density(torch.diag(lam), steps=8)
    low, high = found.cumulative_interval(torch.tensor([0.5, 2.0, 5.0]))
    assert (float(low[0]), float(high[2])) == (0.0, 1.0)
    assert 0.02 < float(high[1] - low[1]) < 0.06
    assert low[1] < 0.75 < high[1]


def test_an_interval_whose_quadrature_is_not_known_is_not_stated():
    found = spectral_density(matrix_with(SPECTRA["power"]), steps=5)
    estimate = found.trace_of(lambda lam: lam / (lam + 1))
    with pytest.raises(BadArgument, match=r"(?s)how far its quadrature is off is not known.*more `steps`"):
        estimate.interval()
    assert "quadrature's error is not known" in str(estimate)
    with pytest.raises(BadArgument, match="confidence=1"):
        found.cumulative_interval(torch.tensor(1.0), confidence=1)
