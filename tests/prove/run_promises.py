"""What statement `run` promises of any network: of the exact run, of the saved file, and of a plain torch run."""

from dataclasses import replace

import torch
from torch import nn

from gramian.checker import checked
from gramian.checker.certificate_file import Content
from gramian.checker.replay import ReplayedRun, Tail, tail
from gramian.prove import check

STEPS = 120


def assert_tail_is_kept(exact, proof: Tail, steps: int) -> None:
    """From the step of the tail on, the exact run stays below the proved curve and within the radius."""
    begin, curve = exact.parameters(), proof.residual
    for _ in range(steps):
        exact.step()
        curve *= proof.rate
        assert exact.loss_root() <= curve
        assert exact.way_from(begin) <= proof.radius


def assert_exact_run_keeps_every_promise(replay: ReplayedRun, exact) -> None:
    """Bounds at every step until the tail is proved, if it ever is, then the tail's own."""
    proof = None
    try:
        for point, bounds in replay:
            assert exact.distance(point.weights) <= bounds.distance
            assert exact.loss_root() <= bounds.residual
            if point.step % 8 == 7:
                proof = tail(replay, point, bounds)
                if proof.proved:
                    break
            if point.step == STEPS or bounds.distance > 0.1:
                return
            exact.step()
    except ArithmeticError:  # a preactivation left the table: nothing is claimed
        return
    assert proof is not None
    assert_tail_is_kept(exact, proof, 40)


def nearest_to_the_threshold(task, start, replay_of: type[ReplayedRun]):
    """The task with targets scaled until 2 L R is just below c sigma^2 at the start, and its tail there."""
    first, _ = next(iter(replay_of(task, start)))
    outputs = first.residual + task.y

    def at(size: float):
        scaled = replace(task, y=outputs + size * (task.y - outputs))
        replay = replay_of(scaled, start)
        return scaled, tail(replay, *next(iter(replay)))

    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        if at(middle)[1].proved:
            low = middle
        else:
            high = middle
    return at(low)


def assert_plain_torch_takes_the_proved_steps(proof, net: nn.Module, x: torch.Tensor, y: torch.Tensor, lr: float):
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    for _ in range(int(proof.numbers["steps_proved_0.001"])):
        optimizer.zero_grad()
        loss = ((net(x) - y) ** 2).sum() / 2
        loss.backward()
        optimizer.step()
    assert ((net(x) - y) ** 2).sum() / 2 <= 1e-3 < loss


def assert_saved_certificate_is_valid(proof, folder, x, y) -> None:
    proof.save(folder / "run.certificate")
    word = check(folder / "run.certificate", x, y)
    assert word.valid, str(word)
    assert "converges to weights with training loss exactly 0" in str(word)


def assert_claim_fails_by_name(content: Content, name: str, factor: float, line: str | None) -> None:
    """With one number changed by a factor the certificate is not valid; `line` is the inequality that fails."""
    numbers = dict(content.numbers)
    numbers[name] *= factor
    word = checked(replace(content, numbers=numbers))
    assert not word.valid
    assert line is None or line in [failing.name for failing in word.failing]


def assert_other_content_fails(content: Content, y) -> None:
    """Other weights, the targets `y`, or other activations under the same claims are not valid."""
    arrays = dict(content.program.arrays)
    name = max(arrays, key=lambda key: arrays[key].size)
    arrays[name] = arrays[name] * 0.6
    assert not checked(replace(content, program=replace(content.program, arrays=arrays))).valid
    assert not checked(replace(content, y=y)).valid
    steps = [replace(s, function="sigmoid") if s.kind == "function" else s for s in content.program.steps]
    assert not checked(replace(content, program=replace(content.program, steps=steps))).valid
