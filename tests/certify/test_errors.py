"""What can't be certified is said in four parts, before any work."""

import re

import pytest
import torch
from torch import nn

from gramian.certify import Description, certify, limit_cost
from gramian.errors import BadArgument, BadData, GramianError
from gramian.network.zoo import mlp


def net(n_outputs=3):
    return mlp((1, 8, 8), n_outputs, depth=2, width=16)


def holed(x, row=3):
    x = x.clone()
    x[row, 0, 2, 1] = torch.nan
    return x


ROWS = torch.arange(1000, 1024)
NAN = r"1 of 1536 numbers are not finite; the first is nan.*where: x, row 1003, position \(0, 2, 1\).*why: .*fix: "
# name: (what is given for x, y and the rest, the error, its text)
DATA = {
    "nan": (lambda x, y, *_: (holed(x), y, {"description": Description(rows=ROWS)}), NAN),
    "nan in the test rows": (
        lambda x, y, *_: (x, y, {"x_test": holed(x), "y_test": y}),
        r"not finite.*where: x_test, row 3, position \(0, 2, 1\).*why: .*fix: ",
    ),
    "infinite targets": (
        lambda x, y, *_: (x, torch.full((24, 3), torch.inf), {}),
        r"72 of 72 numbers are not finite.*where: labels of x, row 0.*why: .*fix: ",
    ),
    "empty": (lambda x, y, *_: (x[:0], y[:0], {}), r"no data: inputs of shape \(0, 1, 8, 8\).*where: x.*why: .*fix: "),
    "one class": (
        lambda x, y, *_: (x, 0 * y, {}),
        r"all 24 labels are class 0: there is nothing to tell apart.*where: labels of x.*why: .*fix: ",
    ),
    "fewer labels": (lambda x, y, *_: (x, y[:5], {}), r"24 rows of inputs, but 5 labels.*where: x.*why: .*fix: "),
    "one-hot classes": (
        lambda x, y, *_: (x, torch.eye(3, dtype=torch.int64)[y], {}),
        r"class labels must have shape \(n,\), not \(24, 3\).*where: .*why: .*fix: `y.argmax\(1\)`",
    ),
    "no dimensions": (
        lambda x, y, *_: (x[:, 0, 0, 0], y, {}),
        r"inputs of shape \(24,\) are not of shape \(n, d\).*where: x.*why: .*fix: ",
    ),
    "images of another size": (
        lambda x, y, *_: (x[:, :, :4], y, {}),
        r"does not run on an input of shape \(2, 1, 4, 8\).*where: Sequential.*why: .*fix: ",
    ),
    "test images of another size": (
        lambda x, y, x_test, y_test: (x, y, {"x_test": x_test[:, :, :4], "y_test": y_test}),
        r"inputs of shape \(9, 1, 4, 8\) are not of shape \(n, 1, 8, 8\).*where: x_test.*why: .*fix: ",
    ),
    "test labels of another kind": (
        lambda x, y, x_test, y_test: (x, y, {"x_test": x_test, "y_test": y_test.double()}),
        r"9 test rows with labels of shape \(9, 1\) and type torch.float64.*where: certify.*why: .*fix: ",
    ),
    "a test class never seen": (
        lambda x, y, x_test, y_test: (x, y, {"x_test": x_test, "y_test": y_test + 1}),
        r"y_test has class numbers 1 to 3.*where: .*why: .*fix: a last layer with 4 outputs",
    ),
}
ARGUMENTS = {
    "accuracy": ({"accuracy": 2}, r"accuracy=2 is no share.*where: setting `accuracy`.*why: .*fix: "),
    "tolerance": ({"tolerance": 0.0}, r"tolerance=0.0 is no share.*where: argument `tolerance`.*why: .*fix: "),
    "optimizer": ({"optimizer": "lbfgs"}, r"optimizer='lbfgs' is not known.*where: .*fix: one of gd, sgd"),
    "loss": ({"loss": "hinge"}, r"loss='hinge'.*where: argument `loss`.*why: .*fix: .*squared"),
    "steps": ({"steps": -1}, r"steps=-1 makes no sense.*where: .*fix: a whole number"),
    "lr": ({"lr": -1.0}, r"lr=-1.0 makes no sense.*where: .*fix: a positive number"),
    "batch_size": ({"batch_size": 0}, r"batch_size=0 makes no sense.*where: .*fix: a whole number, 1 or more"),
    "batches of gd": ({"optimizer": "gd", "batch_size": 4}, r"batch_size=4 with optimizer='gd'.*fix: optimizer='sgd'"),
    "momentum": ({"momentum": 1.0}, r"momentum=1.0 makes no sense.*where: .*fix: "),
    "width": ({"width": "wide"}, r"width='wide' is no width.*where: argument `width`.*why: .*fix: "),
    "law": ({"law": "kaiming"}, r"Unknown law 'kaiming'.*where: law.*why: .*fix: "),
    "parametrization": ({"parametrization": "mu"}, r"'mu'.*where: argument `parametrization`.*why: .*fix: one of"),
    "a test set without labels": (
        {"x_test": torch.ones(2, 1, 8, 8)},
        r"x_test and y_test go together.*where: .*fix: give both or none",
    ),
}


@pytest.mark.parametrize("name", DATA)
def test_data_that_can_t_be_used_are_refused(name, few):
    make, text = DATA[name]
    x, y, rest = make(*few)
    with pytest.raises(BadData, match=f"(?s){text}"):
        certify(net(), x, y, width=8, steps=2, **rest)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_that_make_no_sense_are_refused(name, few):
    settings, text = ARGUMENTS[name]
    with pytest.raises(BadArgument, match=f"(?s){text}"):
        certify(net(), *few[:2], **{"width": 8, "steps": 2} | settings)


def test_settings_are_refused_before_the_module_is_read(few):
    class Never(nn.Module):
        def forward(self, x):
            raise AssertionError("the module was called")

    for settings in ({"optimizer": "lbfgs"}, {"steps": 0.5}, {"batch_size": -1}, {"accuracy": 1.0}):
        with pytest.raises(BadArgument):
            certify(Never(), *few[:2], **settings)


def test_a_last_layer_for_other_classes_is_refused(few):
    text = r"has 2 outputs for targets of shape \(24, 3\).*where: certify.*why: .*fix: a last layer with 3 outputs"
    with pytest.raises(BadArgument, match=f"(?s){text}"):
        certify(net(2), *few[:2], width=8, steps=2)


def test_cross_entropy_of_real_targets_is_refused(few):
    with pytest.raises(BadData, match=r"(?s)cross-entropy takes class numbers.*where: .*fix: "):
        certify(net(1), few[0], torch.randn(24, 1), loss="cross-entropy", width=8, steps=2)


def test_an_unwritable_folder_is_refused_with_the_report_in_hand(few, tmp_path):
    one = certify(net(), *few[:2], width=8, steps=2)
    file = tmp_path / "report"
    file.write_text("mine")
    with pytest.raises(BadArgument, match=rf"(?s)cannot be written.*where: {re.escape(str(file))}.*why: .*fix: "):
        one.write(str(file))
    assert file.read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["report"]


def test_a_checkpoint_in_no_folder_is_refused_before_training(few, tmp_path):
    with pytest.raises(GramianError, match=r"(?s)where: .*fix: "):
        certify(net(), *few[:2], width=8, steps=2, checkpoint=tmp_path / "none" / "run.safetensors")


def test_a_kernel_that_does_not_fit_into_memory_is_refused_before_any_work(monkeypatch):
    monkeypatch.setattr(limit_cost, "free_memory", lambda: 8 * 2.0**30)  # a machine that has no more
    assert limit_cost.check_memory(1000) == ""
    assert limit_cost.check_memory(10_000) == "limit kernel of 10,000 rows: about 4.1 GiB of memory"
    with pytest.raises(BadArgument, match=r"(?s)20,000 rows.*16\.4 GiB; 8\.0 are free.*where:.*why:.*fix: .*--n 12800"):
        limit_cost.check_memory(20_000)
