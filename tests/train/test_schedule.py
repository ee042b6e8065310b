"""Which steps are measured."""

from hypothesis import given
from hypothesis import strategies as st

from gramian.train.schedule import GRAM_MEASUREMENTS, MEASUREMENTS, gram_steps, measured_steps


@given(st.integers(0, 10**7), st.one_of(st.none(), st.integers(10**4, 10**6)))
def test_ascending_from_the_first_step_to_the_last_and_few(steps, every):
    measured = measured_steps(steps, every)
    assert measured[0] == 0
    assert measured[-1] == steps
    assert list(measured) == sorted(set(measured))
    if every is None:
        assert len(measured) <= MEASUREMENTS + 1
    else:
        assert all(m % every == 0 for m in measured[:-1])
    gram = gram_steps(measured)
    assert gram <= set(measured)
    assert {0, steps} <= gram
    assert len(gram) == min(len(measured), GRAM_MEASUREMENTS)
