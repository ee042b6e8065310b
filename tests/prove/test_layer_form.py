"""Multipliers and biases that stand in steps of their own are taken into the layers, and the formula stays."""

import pytest
import torch
from torch import nn

import gramian
from gramian.checker.program import evaluate
from gramian.prove.layer_form import in_layers
from gramian.prove.read_program import checked_layers, read_program

TWO_LAYERS = ["input", "affine", "function", "affine"]


def drawn(bias=True, depth=2, activation=nn.Tanh):
    layers = [nn.Linear(5, 9, bias=bias), activation()]
    for _ in range(depth - 2):
        layers += [nn.Linear(9, 9, bias=bias), activation()]
    deviations = (1.0, 0.1 * bias)
    module = nn.Sequential(*layers, nn.Linear(9, 2, bias=bias))
    arch = gramian.architecture(module, torch.randn(2, 5), law=deviations)
    return arch.network(9, 0, dtype=torch.float64)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("depth", [2, 3])
def test_a_drawn_network_is_a_chain_of_layers_with_the_same_outputs(bias, depth):
    torch.manual_seed(0)
    net, x = drawn(bias, depth), torch.randn(4, 5).double()
    plain = read_program(net, x)
    program = in_layers(plain)
    assert "linear" in [step.kind for step in plain.steps]
    assert [step.kind for step in program.steps] == TWO_LAYERS + ["function", "affine"] * (depth - 2)
    assert program.trained == plain.trained
    assert [bool(step.bias) for step in program.steps if step.kind == "affine"] == [bias] * depth
    outputs = evaluate(program, x.numpy()).output.middle
    torch.testing.assert_close(torch.from_numpy(outputs), net(x).detach(), rtol=1e-12, atol=1e-12)


def test_a_plain_network_and_one_that_is_no_chain_stay_as_they_are():
    x = torch.randn(4, 5).double()
    plain = read_program(nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 2)).double(), x)
    assert in_layers(plain).steps == plain.steps

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(5, 5)

        def forward(self, x):
            return x + 0.5 * self.layer(x)

    residual = read_program(Residual().double(), x)
    assert in_layers(residual) is residual


def test_the_whole_run_of_a_drawn_network_is_proved():
    torch.manual_seed(0)
    net, x = drawn(activation=nn.Tanh), torch.randn(2, 5).double()
    program = checked_layers(net, x)
    assert [step.kind for step in program.steps] == TWO_LAYERS
    y = net(x).detach() + 0.05
    assert gramian.prove(net, x, y, "run", lr=0.1, accuracy=1e-6, most_steps=3000).status == "proved"
