"""Ctrl-C ends a run after its step and keeps what was measured; a second one ends it at once."""

import signal
import threading

import pytest
import torch
from torch import nn

from gramian.train import train

X, Y = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), torch.ones(8, 1).double()


class PressAt:
    """Presses Ctrl-C when the network is called for the k-th time with gradients on."""

    def __init__(self, module, *calls):
        self.calls, self.count = calls, 0
        module.register_forward_pre_hook(self)

    def __call__(self, module, args):
        if module.training and torch.is_grad_enabled():
            for _ in range(self.calls.count(self.count)):
                signal.raise_signal(signal.SIGINT)
            self.count += 1


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))


def test_the_run_ends_after_the_step_with_what_was_measured():
    handler = signal.getsignal(signal.SIGINT)
    module = net()
    PressAt(module, 6)
    trace = train(module, X, Y, lr=0.01, steps=1000, every=4)
    assert trace.interrupted
    assert not trace.diverged
    assert trace.reason == "interrupted by Ctrl-C after 7 steps"
    assert trace.steps == list(range(7))
    assert trace.measured["loss"].steps == [0, 4, 7]  # where it ended is measured too, but for what is dear
    assert trace.measured["gram_min"].steps == [0]
    assert signal.getsignal(signal.SIGINT) is handler


def test_an_interrupted_run_resumes_to_the_uninterrupted_one(tmp_path):
    path = tmp_path / "run.safetensors"
    module = net()
    PressAt(module, 6)
    assert train(module, X, Y, lr=0.01, steps=20, every=4, checkpoint=path).interrupted
    resumed = train(net(), X, Y, lr=0.01, steps=20, every=4, checkpoint=path, resume=True)
    whole = train(net(), X, Y, lr=0.01, steps=20, every=4)
    assert resumed.losses == whole.losses
    assert resumed.measured == whole.measured


def test_a_second_ctrl_c_ends_it_at_once():
    handler = signal.getsignal(signal.SIGINT)
    module = net()
    PressAt(module, 6, 6)
    with pytest.raises(KeyboardInterrupt):
        train(module, X, Y, lr=0.01, steps=1000)
    assert signal.getsignal(signal.SIGINT) is handler


def test_other_threads_train_without_touching_signals():
    handler, traces = signal.getsignal(signal.SIGINT), []
    thread = threading.Thread(target=lambda: traces.append(train(net(), X, Y, lr=0.01, steps=3, probes=())))
    thread.start()
    thread.join()
    assert len(traces[0].losses) == 4
    assert signal.getsignal(signal.SIGINT) is handler
