"""What is said of the cost of a spectrum before it is computed."""

import torch

from gramian.certify.limit_cost import spectrum_seconds


def test_the_cost_of_a_spectrum_grows_with_the_cube_of_the_rows():
    def half_a_second(work, *, on_cpu):
        assert len(work().eigenvalues) == 1000
        assert not on_cpu
        return 0.5

    assert spectrum_seconds(torch.eye(2000), half_a_second) == 0.0
    assert spectrum_seconds(torch.eye(3000), half_a_second) == 0.5 * 27
