"""Hooks, stop-gradients, checkpoints and custom functions: all functions mean what `backward` gives, or refuse."""

import pytest
import torch
from lent_modules import Attending, Checkpointed, Encoder, Stopped, Two, mlp
from torch import nn
from torch.utils.checkpoint import checkpoint

import gramian
from gramian.empirical import Sketch, empirical_ntk_by_layer, jacobian, quadratic
from gramian.errors import GramianError

pytestmark = pytest.mark.filterwarnings("ignore")
N = 3


def by_backward(net, x):
    """The Jacobian as `backward` gives it, hooks and all; shape (n, C, p)."""
    made = []
    for row in x:
        with torch.no_grad():
            size = net(row[None].clone()).numel()
        for c in range(size):
            net.zero_grad()
            net(row[None].clone()).flatten()[c].backward()
            made.append(torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in trains(net)]))
    net.zero_grad()
    return torch.stack(made).reshape(len(x), -1, made[0].numel())


def trains(net):
    return [p for p in net.parameters() if p.requires_grad]


class Straight(torch.autograd.Function):
    """Signs forward, straight through backward."""

    @staticmethod
    def forward(ctx, x):
        return x.sign()

    @staticmethod
    def backward(ctx, g):
        return g


class Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale):
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return -ctx.scale * g, None


class Customized(nn.Module):
    def __init__(self, function, *more):
        super().__init__()
        self.a, self.b, self.f, self.more = nn.Linear(4, 5), nn.Linear(5, 2), function, more

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)) + self.f.apply(self.a(x), *self.more))


class HookedInside(nn.Module):
    """Scales the gradient of a feature on its way back."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x):
        h = torch.tanh(self.a(x))
        if h.requires_grad:
            h.register_hook(lambda g: 0.3 * g)
        return self.b(h)


class CheckpointedInput(nn.Module):
    """A reentrant checkpoint of the input alone: what is in it does not train, as torch warns."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x):
        return self.b(checkpoint(lambda x: torch.tanh(self.a(x)), x, use_reentrant=True))


def masked():
    net = mlp()
    mask = (torch.arange(5) > 2)[:, None]
    net[0].weight.register_hook(lambda g: g * mask)
    return net


def scaled():
    net = mlp()
    for p in net.parameters():
        p.register_hook(lambda g: 2 * g)
    net[0].bias.register_hook(lambda g: None)
    return net


def module_hook():
    net = mlp()
    net[1].register_full_backward_hook(lambda m, down, up: (0.5 * down[0],))
    net[2].register_full_backward_pre_hook(lambda m, up: (1.5 * up[0],))
    return net


def convolution():
    net = nn.Sequential(nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(9, 2))
    net[1].weight.register_hook(lambda g: torch.cat([g[:1] * 0, g[1:]]))
    return net


def mask_of_a_shared_weight():
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    net[2].weight = net[0].weight
    net[0].weight.register_hook(lambda g: g.tril())
    return net


TRAINS = {
    "mask": masked,
    "scales and a hook that looks on": scaled,
    "mask of a convolution": convolution,
    "mask of a shared weight": mask_of_a_shared_weight,
    "hook in the forward": HookedInside,
    "module hooks": module_hook,
    "straight through": lambda: Customized(Straight),
    "gradient reversal": lambda: Customized(Reversal, 0.5),
    "stop-gradients": Stopped,
    "checkpoint": lambda: Checkpointed(False),
    "reentrant checkpoint": lambda: Checkpointed(True),
    "reentrant checkpoint of the input": CheckpointedInput,
}


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", TRAINS)
def test_all_functions_mean_the_jacobian_of_backward_passes(name):
    net, x = TRAINS[name](), torch.randn(N, 4)
    j = by_backward(net, x)
    n, c, p = j.shape
    close(jacobian(net, x), j)
    full = torch.einsum("icp,jdp->ijcd", j, j)
    close(gramian.empirical_ntk(net, x, outputs="full"), full)
    close(gramian.empirical_ntk(net, x, x[:2]), full.diagonal(dim1=2, dim2=3).mean(2)[:, :2])
    close(sum(empirical_ntk_by_layer(net, x, outputs="full").values()), full)
    flat = j.reshape(n * c, p)
    close(gramian.EmpiricalNTK(net, x) @ torch.eye(n * c), flat @ flat.T)
    v = torch.randn(p)
    close(gramian.GaussNewton(net, x) @ v, flat.T @ (flat @ v))
    sketch = Sketch(6)
    features = torch.zeros(n * c, 6)
    for number, part in enumerate(flat.split([q.numel() for q in trains(net)], 1)):
        sketch.add_to(features, part, number)
    close(gramian.projected_gradients(net, x, sketch, "full"), features)


@pytest.mark.parametrize("name", TRAINS)
def test_a_linearized_model_trains_along_that_jacobian(name):
    """Also where its weights are far from the origin: what is recomputed there would be another network's."""
    net, x = TRAINS[name](), torch.randn(N, 4)
    j, out = by_backward(net, x).flatten(0, 1), net(x.clone()).detach()
    model = gramian.linearize(net)
    step = torch.randn(j.shape[1])
    for part, p in zip(step.split([p.numel() for p in trains(net)]), trains(model.module), strict=True):
        p.data += part.reshape(p.shape)
    made = model(x)
    close(made.detach(), out + (j @ step).reshape(out.shape))
    weight = torch.randn(made.shape)
    made.backward(weight)
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in trains(model.module)]
    close(torch.cat([g.flatten() for g in grads]), j.T @ weight.flatten())


@pytest.mark.parametrize("name", TRAINS)
def test_a_second_order_model_is_right_or_refused(name):
    """Its first two terms are those of the linearized model; where gradients are changed there is no second one."""
    net, x = TRAINS[name](), torch.randn(N, 4)
    model, linear = quadratic(net), gramian.linearize(net)
    for p, q in zip(trains(model.module), trains(linear.module), strict=True):
        p.data += 0.1
        q.data += 0.1
    if name not in ("checkpoint", "reentrant checkpoint"):
        with pytest.raises(GramianError, match=r"(?s)where.*why.*fix"):
            model.terms(x)
        return
    value, change, _ = model.terms(x)
    close((value + change).detach(), linear(x).detach())


NOT_LINEAR = {
    "clipping": lambda g: g.clamp(-0.1, 0.1),
    "clipping of what is large": lambda g: g.clamp(-1e4, 1e4),
    "normalizing": lambda g: g / (g.norm() + 1e-6),
    "signs": torch.sign,
    "noise": lambda g: g + 0.1 * torch.randn_like(g),
    "decay": lambda g: g + 0.01,
}
LOOKS = {
    "empirical_ntk": gramian.empirical_ntk,
    "EmpiricalNTK": gramian.EmpiricalNTK,
    "GaussNewton": gramian.GaussNewton,
    "projected_gradients": lambda net, x: gramian.projected_gradients(net, x, Sketch(4)),
    "linearize": lambda net, x: gramian.linearize(net)(x),
    "jacobian": jacobian,
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("hook", NOT_LINEAR)
def test_hooks_that_are_not_linear_are_refused(look, hook):
    net, x = mlp(), torch.randn(N, 4)
    net[0].weight.register_hook(NOT_LINEAR[hook])
    with pytest.raises(GramianError, match=r"(?s)not linear.*0\.weight.*where.*why.*fix"):
        LOOKS[look](net, x)


@pytest.mark.parametrize("look", LOOKS)
def test_hooks_on_grad_itself_are_refused(look):
    net, x = mlp(), torch.randn(N, 4)
    net[0].weight.register_post_accumulate_grad_hook(lambda p: p.grad.mul_(0.5))
    with pytest.raises(GramianError, match=r"(?s)acts on its `.grad`.*where.*why.*fix"):
        LOOKS[look](net, x)


@pytest.mark.parametrize("make", [Encoder, Attending])
def test_fused_layers_are_linearized_and_expanded(make):
    """torch's fused attention has no derivative, and takes over in eval mode."""
    net, x = make().eval(), torch.randn(N, 5, 4)
    j, out = jacobian(net, x).flatten(0, 1), net(x).detach()
    for expand in (gramian.linearize, quadratic):
        model = expand(net)
        with torch.no_grad():
            close(model(x), out)
            for p in model.module.parameters():
                p.add_(1e-5)
            torch.testing.assert_close(model(x), out + (j.sum(1) * 1e-5).reshape(out.shape), rtol=1e-6, atol=1e-8)
        weight = torch.randn(out.shape)
        model(x).backward(weight)
        grad = torch.cat([p.grad.flatten() for p in model.module.parameters()])
        torch.testing.assert_close(grad, j.T @ weight.flatten(), rtol=1e-3, atol=1e-3)


def test_a_forward_of_the_instance_and_several_inputs():
    net, x = Two(), (torch.randn(4, 4), torch.rand(4, 1))
    own, k = net.forward, gramian.empirical_ntk(net, x)

    def with_autocast(*args, **kwargs):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return own(*args, **kwargs).double()

    net.forward = with_autocast
    assert float((gramian.empirical_ntk(net, x) - k).norm() / k.norm()) < 0.03
    model = gramian.linearize(net)
    model.module.a.weight.data += 1
    assert not torch.equal(model(*x), net(*x))  # the copy's forward is the copy's


OUTSIDE = mlp().double()


def test_a_forward_that_uses_another_copy_of_the_weights_is_refused():
    """A function that no copy can follow."""
    net = mlp()
    net.forward = lambda x: OUTSIDE(x) + net[2](torch.tanh(net[0](x)))
    model = gramian.linearize(net)
    with pytest.raises(GramianError, match=r"(?s)past its place.*where.*why.*fix"):
        model(torch.randn(N, 4))


def test_hooks_that_look_on_change_nothing():
    net, x, seen = mlp(), torch.randn(N, 4), []
    k, features = gramian.empirical_ntk(net, x), gramian.projected_gradients(net, x, Sketch(4))
    for p in net.parameters():
        p.register_hook(lambda g: seen.append(1))
    close(gramian.empirical_ntk(net, x), k)
    close(gramian.projected_gradients(net, x, Sketch(4)), features)
    assert not gramian.EmpiricalNTK(net, x).why_twice_backward


def test_a_mask_of_rows_that_no_sample_uses_yet():
    """A hook that would look like one that looks on, by the gradient of the first sample."""
    net = nn.Sequential(nn.Embedding(6, 3), nn.Flatten(), nn.Linear(6, 2))
    net[0].weight.register_hook(lambda g: torch.cat([g[:2], 0 * g[2:]]))
    x = torch.tensor([[0, 1], [2, 3], [4, 5]])
    j = by_backward(net, x).flatten(0, 1)
    full = gramian.empirical_ntk(net, x, outputs="full").permute(0, 2, 1, 3).reshape(6, 6)
    close(full, j @ j.T)
    close(gramian.EmpiricalNTK(net, x) @ torch.eye(6), j @ j.T)


def test_a_mask_has_the_stable_rate_of_what_trains_and_a_scale_none():
    net, x, y = nn.Linear(4, 1, bias=False), torch.randn(8, 4), torch.randn(8, 1)
    mask = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    net.weight.register_hook(lambda g: mask * g)
    advice = gramian.suggest(net, (x, y), nn.MSELoss(), "sgd", rehearse=0)
    part = x[:, :2]
    close(torch.tensor(advice.largest), 2 / torch.linalg.eigvalsh(2 / 8 * part.T @ part)[-1])
    net.weight.register_hook(lambda g: 3 * g)
    with pytest.raises(GramianError, match=r"(?s)more than a mask.*where.*why.*fix"):
        gramian.suggest(net, (x, y), nn.MSELoss(), "sgd")
