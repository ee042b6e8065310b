"""What is proved, held against what is so: exact zeros and exact gradient descent in 200 bits, over random problems."""

import numpy as np
import pytest
from exact_networks import Network, descent, newton
from hypothesis import given, settings
from hypothesis import strategies as st

from gramian.checker.eigenvalues import largest_provable, smallest_provable
from gramian.checker.growth import bounded
from gramian.checker.program import jacobian_gram
from gramian.checker.statements import contraction, evaluated, lines, residual_norm

SMOOTH = ("tanh", "erf", "gelu", "softplus", "sigmoid", "silu", "sin", "square", "elu")
DESCENT_STEPS = 30
BELOW = 1 + 1e-9  # distances and norms are compared as float64


class Case:
    """A random network with data, moved by `share` of a fixed direction from an exact zero."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        samples, inputs, outputs = rng.integers(1, 5), rng.integers(1, 5), rng.integers(1, 3)
        width, depth = int(rng.integers(3, 9)), int(rng.integers(1, 3))
        self.activation = str(rng.choice([*SMOOTH, "relu"]))
        tied = depth == 2 and rng.random() < 0.3
        layers, shapes, last = [], {}, inputs
        for number in range(depth):
            name = number
            if tied and number and last == width:
                name = "tied"
            layers.append([f"w{name}", f"b{name}" if rng.random() < 0.8 else "", self.activation])
            shapes[f"w{name}"] = (width, last)
            last = width
        if tied:  # the same square layer again
            layers.append([*layers[-1][:2], str(rng.choice(SMOOTH))])
        layers.append(["v", "c" if rng.random() < 0.5 else "", ""])
        shapes["v"] = (outputs, width)
        for weight, bias, _ in layers:
            if bias:
                shapes[bias] = shapes[weight][:1]
        trained = [name for name in shapes if rng.random() < 0.85] or ["v"]
        self.network = Network([tuple(layer) for layer in layers], shapes, trained)
        weights_scale, data_scale = 10 ** rng.uniform(-1, 1), 10 ** rng.uniform(-1, 1)
        if rng.random() < 0.1:
            weights_scale = 10 ** rng.uniform(-3, 3)
        self.x = rng.standard_normal((samples, inputs)) * data_scale
        if samples > 1 and rng.random() < 0.3:  # rows that nearly coincide
            self.x[1] = self.x[0] + 10 ** rng.uniform(-5, -1) * rng.standard_normal(inputs)
        start = {k: rng.standard_normal(s) * weights_scale / np.sqrt(s[-1]) for k, s in shapes.items()}
        self.y, zero = np.zeros((samples, outputs)), np.zeros((1, outputs))
        for sample in range(samples):
            residual, _ = self.network.residual_and_jacobian(self.network.exact(start), self.x[[sample]], zero)
            self.y[sample] = [float(r) for r in residual]
        self.start = start
        self.direction = {k: rng.standard_normal(s) for k, s in shapes.items()}
        self.rng = rng

    def weights(self, share):
        return {k: v + share * self.direction[k] if k in self.network.trained else v for k, v in self.start.items()}

    def minimum(self, share):
        """Claims for "minimum" if the checker accepts them, else None."""
        return tightest(self.network.program(self.weights(share)), self.x, self.y, None)

    def descent(self, share, rate):
        return tightest(self.network.program(self.weights(share)), self.x, self.y, rate)

    def largest_share(self, proved, halvings=20):
        """The largest share of the direction with which it is proved, nearly; 0 where none is."""
        low, high = 0.0, 1.0
        for share in 10.0 ** -np.arange(1, 15):
            if proved(share):
                low, high = share, 10 * share
                break
        if low == 0:
            return 0.0
        for _ in range(halvings):
            middle = (low * high) ** 0.5
            if proved(middle):
                low = middle
            else:
                high = middle
        return low


def tightest(program, x, y, rate):
    """The boldest claims that the checker accepts, without the room that the prover leaves; None where none are.

    Args:
        rate: of "descent" in units of 1 / lambda_max; None for "minimum".
    """
    values = evaluated(program, x)
    gram = jacobian_gram(program, values)
    if not np.isfinite(gram.matrix).all():
        return None
    eigenvalues = np.linalg.eigvalsh(gram.matrix)
    had = {"residual": residual_norm(values, y), "sigma": smallest_provable(gram, eigenvalues[0]) * (1 - 1e-9)}
    statement, share = "minimum", 1.0
    if rate is not None:
        statement, had["largest"] = "descent", largest_provable(gram, eigenvalues[-1]) * (1 + 1e-9)
        had["step"] = rate / had["largest"] ** 2
    if not (had["sigma"] > 0 and had["residual"] > 0):
        return None
    had["radius"] = had["residual"] / had["sigma"]
    for _ in range(40):
        had["lipschitz"] = bounded(program, values, had["radius"]).lipschitz * (1 + 1e-12)
        if not np.isfinite(had["lipschitz"]):
            return None
        if rate is not None:
            norm = had["largest"] + had["lipschitz"] * had["radius"]
            share = 1 - had["step"] * norm**2 / 2 - had["lipschitz"] * had["step"] * had["residual"] / 2
        h = 2 * had["lipschitz"] * had["residual"] / (max(share, 1e-9) * had["sigma"] ** 2)
        if share <= 0 or h >= 1:
            return None
        radius = 2 * had["residual"] / (share * had["sigma"] * (1 + np.sqrt(1 - h))) * (1 + 1e-10)
        if radius <= had["radius"]:
            break
        had["radius"] = radius * (1 + 1e-7)
    had = {name: float(number) for name, number in had.items()}
    if all(line.holds for line in lines(statement, program, x, y, had)):
        return {**had, "h": h}
    return None


def minimum_ratio(case, share):
    """Distance of an exact zero over the proved radius, and h."""
    had = case.minimum(share)
    if had is None:
        return None
    start = case.network.exact(case.weights(share))
    there, norm = newton(case.network, start, case.x, case.y)
    assert norm <= 1e-40, f"no zero near a proved one: {norm}"
    return case.network.distance(start, there) / had["radius"], had["h"]


def descent_ratios(case, share, rate):
    """The largest ratios of the residual to the proved curve, and of the distance to the proved radius."""
    had = case.descent(share, rate)
    start = case.network.exact(case.weights(share))
    norms, distances = descent(case.network, start, case.x, case.y, had["step"], DESCENT_STEPS)
    slower = 1 - contraction({name: number for name, number in had.items() if name != "h"})
    curve = [had["residual"] * slower**k for k in range(len(norms))]
    assert norms[0] <= curve[0]
    return max(a / b for a, b in zip(norms[1:], curve[1:], strict=True)), max(distances) / had["radius"]


def attacked(seed):
    """Ratios of one random problem, at the edge of what can be proved and somewhere inside."""
    case = Case(seed)
    result = {"minimum": [], "descent": [], "distance": [], "h": []}
    edge = case.largest_share(lambda share: case.minimum(share) is not None)
    for share in (edge, edge * 10 ** case.rng.uniform(-3, 0)):
        seen = minimum_ratio(case, share) if edge else None
        if seen is not None:
            result["minimum"].append(seen[0])
            result["h"].append(seen[1])
    rate = case.rng.uniform(0.2, 1.95)
    edge = case.largest_share(lambda share: case.descent(share, rate) is not None, halvings=8)
    if edge:
        below, inside = descent_ratios(case, edge, rate)
        result["descent"].append(below)
        result["distance"].append(inside)
    return result


def said(name, results):
    """The row of counts: run pytest with -s."""
    for key in ("minimum", "descent", "distance", "h"):
        many = [ratio for result in results for ratio in result[key]]
        if many:
            print(f"{name}: {key}: {len(many)} proved, largest {max(many):.9f}")


@settings(max_examples=4, deadline=None, derandomize=True)
@given(st.integers(0, 2**31))
def test_a_proved_zero_exists_and_proved_descent_stays_below_its_curve(seed):
    result = attacked(seed)
    for key in ("minimum", "descent", "distance"):
        assert all(ratio <= BELOW for ratio in result[key]), (seed, result)


@pytest.mark.slow
def test_hundreds_of_proved_statements_are_so():
    results = [attacked(seed) for seed in range(150)]
    said("random problems", results)
    for key in ("minimum", "descent", "distance"):
        many = [ratio for result in results for ratio in result[key]]
        assert len(many) > 100
        assert max(many) <= BELOW


def test_a_search_for_the_worst_problem_stays_below_one():
    """Small problems, their data and weights changed by whatever brings an exact zero nearest to the proved radius."""
    worst, proved = searched(seeds=1, tries=8)
    assert proved > 5
    assert 0 < worst <= BELOW


@pytest.mark.slow
def test_a_long_search_for_the_worst_problem_stays_below_one():
    worst, proved = searched(seeds=30, tries=120)
    print(f"search: {proved} proved, largest {worst:.9f}")
    assert worst <= BELOW


class Small(Case):
    """f(x) = a phi(w x + b) + c at one or two points; some of it trains."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.samples, self.activation = int(self.rng.integers(1, 3)), str(self.rng.choice([*SMOOTH, "relu"]))
        width = int(self.rng.integers(1, 4))
        shapes = {"w": (width, 1), "b": (width,), "v": (1, width), "c": (1,)}
        chosen = [n for n in shapes if self.rng.random() < 0.6] or ["w", "b"]
        self.network = Network([("w", "b", self.activation), ("v", "c", "")], shapes, chosen)
        size = 2 * sum(int(np.prod(s)) for s in shapes.values()) + self.samples
        self.place(self.rng.standard_normal(size))

    def place(self, point):
        """Start, direction and inputs from one vector; targets are what the start gives."""
        self.point, rest = point, point
        self.start, self.direction = {}, {}
        for name, shape in self.network.shapes.items():
            size = int(np.prod(shape))
            self.start[name], self.direction[name] = rest[:size].reshape(shape), rest[size : 2 * size].reshape(shape)
            rest = rest[2 * size :]
        self.x, self.y = rest.reshape(-1, 1), np.zeros((self.samples, 1))
        values, _ = self.network.residual_and_jacobian(self.network.exact(self.start), self.x, self.y)
        self.y = np.array([[float(v)] for v in values])


def searched(seeds, tries):
    """The largest ratio that hill climbing meets at the edge of what is proved (h just below 1), and its proofs."""
    worst, proved = 0.0, 0
    for seed in range(seeds):
        case = Small(seed)
        best, spread = 0.0, 0.5
        for _ in range(tries):
            before = case.point
            case.place(before + spread * case.rng.standard_normal(len(before)))
            edge = case.largest_share(lambda share: case.minimum(share) is not None)  # noqa: B023
            seen = minimum_ratio(case, edge) if edge else (0.0, 0.0)
            proved += edge > 0
            if seen[0] > best:
                best, spread = seen[0], 1.2 * spread
            else:
                case.place(before)
                spread = max(0.9 * spread, 1e-3)
        worst = max(worst, best)
    return worst, proved
