"""After the run of `certify`: does an exact global minimum lie near the trained weights, and is that proved?

`gramian.prove` is tried on a float64 copy of the trained network: first "minimum", which moves the copy by a few
Gauss-Newton steps, then "descent" from where these end: both are about the weights that the run left. Then the exact
run from the initial weights, where that statement applies; other papers' theorems on these numbers; and bounds of the
error on new samples. All share one budget of time.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass

from torch import Tensor, nn

from gramian.certify.error_bounds import error_bounds
from gramian.certify.finished_run import FinishedRun
from gramian.certify.numeric_theorems import numeric_theorems
from gramian.certify.study_clock import Clock
from gramian.certify.whole_run_proof import proof_of_run
from gramian.checker.relu_descent import RELU_DESCENT
from gramian.checker.sentences import rounded_down, rounded_up
from gramian.empirical.modules.module_copy import copied
from gramian.errors import GramianError, Unsupported
from gramian.predict.cost import MEMORY_SHARE, free_memory
from gramian.prove.cost import ProofCost, least_seconds, predicted_cost
from gramian.prove.proof import PROVED, Proof
from gramian.prove.prove import prove
from gramian.report.facts import BoundFacts
from gramian.timing import TimeLimit

# of the time that the study took so far; a proof for the MLP that it trained is predicted to take some 2.5 times that
SHARE_OF_RUN = 3.5
LEAST_BUDGET = 20.0  # seconds that every study has for a proof
MOST_BYTES = 12 * 2**30
MOST_ACTIVATIONS = 2**18  # numbers in one layer's output of one row; reading a formula of more takes minutes
DESCENT_SHARE = 0.4  # of what "minimum" takes: all but the polishing is done once more
PREFIX = "Not proved: "
TO_THE_MINIMUM = ("minimum", "separation", "run", RELU_DESCENT)
WHOLE_RUN = "the whole run"
BEFORE_IT_RUNS = (
    "Proved from the initial weights alone: gradient descent in real numbers at this run's learning rate converges to "
    "weights with training loss exactly 0."
)
SAYS_HOW = "prove=True (--prove) takes the time"


@dataclass(frozen=True, eq=False)
class Proofs:
    """What became of the proofs.

    Args:
        tried: statements that were proved, or not.
        says: a sentence or two: what is proved, or why nothing is; "" where nobody asked.
        bounds: of the error on new samples.
        interrupted: whether Ctrl-C ended them.
    """

    tried: tuple[Proof, ...] = ()
    says: str = ""
    bounds: tuple[BoundFacts, ...] = ()
    interrupted: bool = False

    @property
    def minimum_is_proved(self) -> bool:
        """Whether an exact minimum (of the cross-entropy: its infimum along a ray) is proved."""
        return proves_minimum(self.tried)


def proves_minimum(certificates: tuple[object, ...]) -> bool:
    """Whether one of these is a proof that an exact minimum lies near the trained weights, that the classes are
    separated, or that the exact run from the initial weights ends in a minimum."""
    return any(isinstance(c, Proof) and c.statement in TO_THE_MINIMUM and c.status == PROVED for c in certificates)


def proofs_of(run: FinishedRun, clock: Clock) -> Proofs:
    """What can be proved of the trained network and of its run in the time that there is; never an error."""
    asked = run.data.request.prove
    if asked is False or run.trace.diverged or not bool(run.train_outputs.isfinite().all()):
        return Proofs()
    if run.trace.interrupted:
        return Proofs(says="No proof of an exact minimum was tried: the run was interrupted.")
    if run.goal.floor > 0:
        return Proofs(
            says="There is no exact minimum to prove: equal inputs have different targets, so the training loss can't "
            "be 0."
        )
    if asked is True:
        seconds = math.inf
    else:
        seconds = max(LEAST_BUDGET, SHARE_OF_RUN * sum(clock.seconds.values()))
    attempts = _Attempts(run, TimeLimit(seconds), clock)
    with clock("proof"):
        return attempts.all()


class _Attempts:
    """One statement after another, in one budget; each that fails in whatever way leaves a sentence."""

    def __init__(self, run: FinishedRun, budget: TimeLimit, clock: Clock) -> None:
        self.run, self.budget, self.clock = run, budget, clock
        self.polished: nn.Module | None = None
        self.of_minimum: list[Proof] = []
        self.of_run: list[Proof] = []
        self.theorems: tuple[Proof, ...] = ()
        self.bounds: tuple[BoundFacts, ...] = ()

    def all(self) -> Proofs:
        says: dict[str, str] = {}
        subject = "an exact minimum"
        try:
            for subject, attempt in (
                ("an exact minimum", self._minimum), ("a bound on new samples", self._error_bounds),
                ("another paper's theorem", self._theorems), (WHOLE_RUN, self._whole_run),
            ):  # fmt: skip
                # a layer without a rule, a graph that torch cannot trace, no memory: the training's result stands
                try:
                    says[subject] = attempt()
                except Exception as error:
                    says[subject] = f"No proof of {subject}: {_reason(error)}."
        except KeyboardInterrupt:
            says[subject] = f"No proof of {subject}: it was interrupted."
            return self._results(says, interrupted=True)
        return self._results(says, interrupted=False)

    def _results(self, says: dict[str, str], interrupted: bool) -> Proofs:
        tried = (*self.of_minimum, *self.of_run, *self.theorems)
        return Proofs(tried, _joined(says), self.bounds, interrupted)

    def _minimum(self) -> str:
        minimum, descent, self.polished, says = _minimum_and_descent(self.run, self.budget, self.clock)
        self.of_minimum += [proof for proof in (minimum, descent) if proof is not None]
        return says

    def _whole_run(self) -> str:
        try:
            proof, says = proof_of_run(self.run, self.budget, self.clock)
        except Unsupported:  # another network than the statement is about
            return ""
        if proof is not None:
            self.of_run.append(proof)
        return says

    def _theorems(self) -> str:
        try:
            self.theorems = numeric_theorems(self.run, self.polished, self.budget)
        except Unsupported:
            return ""
        if any(theorem.statement == RELU_DESCENT and theorem.status == PROVED for theorem in self.theorems):
            return BEFORE_IT_RUNS
        return ""

    def _error_bounds(self) -> str:
        if self.polished is not None:
            # a layer that keeps statistics of the rows: such networks have no bound here
            with contextlib.suppress(GramianError):
                self.bounds = error_bounds(self.run, self.of_minimum[0], self.polished, self.budget)
        return ""


def _joined(says: dict[str, str]) -> str:
    """What is proved stands first, of that the run itself."""
    sentences = sorted(says.items(), key=lambda one: (not one[1].startswith("Proved"), one[0] != WHOLE_RUN))
    return " ".join(text for _, text in sentences if text)


def _minimum_and_descent(
    run: FinishedRun, budget: TimeLimit, clock: Clock
) -> tuple[Proof | None, Proof | None, nn.Module | None, str]:
    """Both proofs, the network that was polished for them, and a sentence."""
    x, y = run.data.inputs, run.data.training_targets()
    network = run.initial.network
    refusal = _too_large(run, budget.left)
    if refusal:
        return None, None, None, f"No proof of an exact minimum was tried: {refusal}; {SAYS_HOW}."
    cost = predicted_cost(network, x, y, loss=run.loss_name)
    if cost.bytes > _most_bytes() or cost.seconds > budget.left:
        return None, None, None, _does_not_fit(cost, budget.left)
    copy = copied(network).cpu().double()
    mode = network.training
    minimum = _minimum(run, copy, x, y, clock)
    if minimum.statement == "separation":
        return minimum, None, None, _says(run, minimum, None)
    if minimum.status != PROVED or DESCENT_SHARE * minimum.numbers["seconds"] > budget.left:
        return minimum, None, copy, _says(run, minimum, None)
    copy.train(mode)
    descent = prove(copy, x, y, "descent", lr=_rate(run), polished=False, max_bytes=MOST_BYTES, news=clock.say)
    return minimum, descent, copy, _says(run, minimum, descent)


def _minimum(run: FinishedRun, copy: nn.Module, x: Tensor, y: Tensor, clock: Clock) -> Proof:
    if run.loss_name == "cross-entropy":
        return prove(copy, x, y, "minimum", loss="cross-entropy", max_bytes=MOST_BYTES, news=clock.say)
    return prove(copy, x, y, "minimum", in_place=True, max_bytes=MOST_BYTES, news=clock.say)


def _rate(run: FinishedRun) -> float | None:
    """The run's own learning rate where its steps on all rows are gradient descent; else 1 / lambda_max."""
    if run.plan.optimizer in ("gd", "sgd"):
        return run.plan.lr
    return None


def _too_large(run: FinishedRun, budget: float) -> str:
    """Why not even the formula is read, "" where it is: reading it takes time as well."""
    if math.isinf(budget):
        return ""
    rows = len(run.data.inputs) * run.data.n_outputs
    if run.loss_name == "squared":
        seconds = least_seconds(rows)
        if seconds > budget:
            return f"the Gram matrix of its {rows:,} outputs alone takes about {seconds:,.0f} s of {budget:.0f} s"
    largest = _largest_activation(run.initial.network, run.data.inputs[:1])
    if largest > MOST_ACTIVATIONS:
        return f"a layer gives {largest:,} numbers a row, and its formula takes minutes to read"
    return ""


def _largest_activation(network: nn.Module, x: Tensor) -> int:
    """Numbers in the largest output of a module, for one row."""
    sizes = [x.numel()]

    def count(_module: nn.Module, _args: object, output: object) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.numel())

    copy = copied(network).eval()
    for module in copy.modules():
        module.register_forward_hook(count)
    copy(x)
    return max(sizes)


def _most_bytes() -> float:
    """Memory that a proof may take: 12 GiB, on a smaller or busier machine most of what is free."""
    return min(float(MOST_BYTES), MEMORY_SHARE * free_memory())


def _does_not_fit(cost: ProofCost, budget: float) -> str:
    most = _most_bytes()
    if cost.bytes > most:
        allowed = f"{most / 2**30:.1f} GiB are allowed"
        return f"No proof of an exact minimum was tried: predicted to take {cost.says()}, and {allowed}."
    return (
        f"No proof of an exact minimum was tried: predicted to take {cost.says()}, and {budget:.0f} s are allowed; "
        f"{SAYS_HOW}."
    )


def _reason(error: Exception) -> str:
    """An error as the end of a sentence."""
    if isinstance(error, GramianError):
        text = error.what
    elif isinstance(error, MemoryError):
        text = "out of memory"
    else:
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return text.strip().rstrip(".")


def _says(run: FinishedRun, minimum: Proof, descent: Proof | None) -> str:
    """What is proved and what is not: of the network as a formula in real numbers, in evaluation mode."""
    if minimum.status != PROVED:
        return f"No proof of an exact minimum: {_failing(minimum)}; what would prove it: {minimum.fix}."
    if minimum.statement == "separation":
        return (
            f"Proved of the trained network, as a formula in real numbers in evaluation mode: each row's own class is "
            f"ahead by at least {rounded_down(minimum.numbers['margin'], 3)}, so multiplying the readout takes the "
            "training loss towards 0, which no finite weights reach."
        )
    numbers = minimum.numbers
    text = (
        f"Proved: weights with training loss exactly 0, of this network as a formula in real numbers in evaluation "
        f"mode, lie within {rounded_up(numbers['radius'])} of the trained ones after Gauss-Newton steps moved these by "
        f"{rounded_up(numbers['moved'])} (their norm is {_norm(run.initial.network):.3g})"
    )
    if descent is not None and descent.status == PROVED:
        text += f", and gradient descent from there {_at_rate(run)} converges to such weights"
    elif descent is not None:
        text += f"; that gradient descent from there {_at_rate(run)} converges to such weights is not proved"
    return text + "; the run that led here is observed."


def _failing(minimum: Proof) -> str:
    """What fails, as the middle of a sentence: the first inequality that does not hold."""
    failing = () if minimum.checked is None else minimum.checked.failing
    if not failing:
        return minimum.summary.removeprefix(PREFIX).rstrip(".")
    first = failing[0]
    if first.name == "sigma":
        return "the smallest singular value of the Jacobian cannot be told from 0"
    return f"one of its inequalities, “{first.says}”, fails ({first.left:.3g} {first.sense} {first.right:.3g})"


def _at_rate(run: FinishedRun) -> str:
    if _rate(run) is None:
        return "at the rate 1/λ_max"
    return "at this run's learning rate"


def _norm(network: nn.Module) -> float:
    squares = [float(p.detach().double().square().sum()) for p in network.parameters() if p.requires_grad]
    return math.sqrt(sum(squares))
