"""Lightning, Hugging Face's Trainer and TensorBoard themselves, where they are installed; they are not in the lock."""

import json
import subprocess
import sys
import textwrap
from importlib.util import find_spec

import pytest

COMMON = """
    import json, pathlib, sys, torch, gramian
    from torch import nn
    folder = pathlib.Path(sys.argv[1])
    where = dict(report=folder / "report", log=folder / "log.jsonl")
    torch.manual_seed(0)
"""
LIGHTNING = """
    import gramian.data
    import lightning.pytorch as lightning

    class Digits(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 10))

        def forward(self, x):
            return self.net(x)

        def training_step(self, batch, number):
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.5, momentum=0.9)

    data = gramian.data.load("digits", n=256)
    x, y = data.x.float(), data.y
    watching = gramian.LightningMonitor(nn.CrossEntropyLoss(), x[:64], y[:64], **where)
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", callbacks=[watching], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, accumulate_grad_batches=2,
    )
    rows = torch.utils.data.TensorDataset(x, y)
    trainer.fit(Digits(), torch.utils.data.DataLoader(rows, 32))
    steps = trainer.global_step
"""
TRAINER = """
    import transformers

    ids = torch.randint(1, 60, (32, 12))
    mask = torch.ones_like(ids)
    if sys.argv[2] == "bert":
        settings = transformers.BertConfig(
            vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=16, num_labels=3,
        )
        model, labels = transformers.BertForSequenceClassification(settings), ids[:, 0] % 3
    else:
        settings = transformers.GPT2Config(
            vocab_size=60, n_embd=16, n_layer=1, n_head=2, n_positions=16, bos_token_id=0, eos_token_id=0
        )
        model, labels = transformers.GPT2LMHeadModel(settings), ids
    rows = [dict(input_ids=i, attention_mask=m, labels=label) for i, m, label in zip(ids, mask, labels)]
    batch = dict(input_ids=ids[:8], attention_mask=mask[:8], labels=labels[:8])
    watching = gramian.TrainerMonitor(None, batch, **where)
    settings = transformers.TrainingArguments(
        output_dir=str(folder / "out"), num_train_epochs=1, per_device_train_batch_size=4, report_to=[],
        save_strategy="no", use_cpu=True, disable_tqdm=True,
    )
    trainer = transformers.Trainer(model=model, args=settings, train_dataset=rows, callbacks=[watching])
    trainer.train()
    steps = trainer.state.global_step
"""
END = """
    monitor = watching.monitor
    names = monitor.trace.measured["distance"].labels
    found = dict(steps=steps, seen=monitor.step, answer=monitor.answer(), names=names)
    found["first"] = monitor.trace.measured["loss"].steps[0]
    (folder / "found.json").write_text(json.dumps(found))
"""
RUNS = {
    "lightning": ("lightning", LIGHTNING),
    "bert": ("transformers", TRAINER),
    "gpt2": ("transformers", TRAINER),
}


def run(package, code, name, folder, end=END):
    """What a script of COMMON, `code` and `end` wrote into found.json, and the finished process."""
    for each in [package] + (["accelerate"] if package == "transformers" else []):
        if find_spec(each) is None:
            pytest.skip(f"{each} is not installed: pip install {each}")
    code = textwrap.dedent(COMMON) + textwrap.dedent(code) + textwrap.dedent(end)
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), name], capture_output=True, text=True, timeout=300, check=False
    )  # apart: these libraries warn of themselves, and a warning is an error here
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "found.json").read_text()), done


@pytest.mark.parametrize("name", RUNS)
def test_a_real_trainer_is_watched_from_its_first_step_to_its_last(name, tmp_path):
    found, done = run(*RUNS[name], name, tmp_path)
    assert "RuntimeWarning" not in done.stderr
    assert found["steps"] == found["seen"] > 3
    assert "the kernel has " in found["answer"][0]
    assert "the largest stable one" in found["answer"][1]
    assert not [label for label in found["names"] if label.startswith(("model.", "module."))]
    assert (tmp_path / "report" / "report.html").exists()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert (lines[0]["step"], lines[-1]["step"]) == (0, found["steps"])


RESUMED_LIGHTNING = (
    LIGHTNING.replace("max_epochs=2", "max_epochs=1").replace("enable_checkpointing=False", "default_root_dir=folder")
    + """
    trainer.save_checkpoint(folder / "half.ckpt")
    watching = gramian.LightningMonitor(nn.CrossEntropyLoss(), x[:64], y[:64], **where)
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", callbacks=[watching], logger=False, default_root_dir=folder,
        enable_progress_bar=False, enable_model_summary=False, accumulate_grad_batches=2,
    )
    trainer.fit(Digits(), torch.utils.data.DataLoader(rows, 32), ckpt_path=folder / "half.ckpt", weights_only=True)
    steps = trainer.global_step
"""
)
RESUMED_TRAINER = (
    TRAINER.replace('save_strategy="no"', 'save_strategy="steps", save_steps=4')
    + """
    watching = gramian.TrainerMonitor(None, batch, **where)
    trainer = transformers.Trainer(model=model, args=settings, train_dataset=rows, callbacks=[watching])
    trainer.train(resume_from_checkpoint=str(folder / "out" / "checkpoint-4"))
    steps = trainer.state.global_step
"""
)
RESUMED = {"lightning": ("lightning", RESUMED_LIGHTNING), "bert": ("transformers", RESUMED_TRAINER)}


@pytest.mark.parametrize("name", RESUMED)
def test_a_resumed_run_goes_on_with_the_monitors_steps(name, tmp_path):
    found, done = run(*RESUMED[name], name, tmp_path)
    assert found["steps"] == found["seen"] == 8, done.stderr[-2000:]
    assert found["first"] == 0
    assert (tmp_path / "report" / "report.html").exists()


@pytest.mark.parametrize("name", ["lightning", "bert"])
def test_a_callback_that_fails_leaves_the_training_alone(name, tmp_path):
    package, code = RUNS[name]
    broken = code.replace("trainer = ", "watching._begin = lambda *_: 1 / 0\n    trainer = ", 1)
    ends = "\n    (folder / 'found.json').write_text(json.dumps(dict(steps=steps)))\n"
    found, done = run(package, broken, name, tmp_path, end=ends)
    assert found["steps"] > 3
    assert "The monitor failed at the start: division by zero" in done.stderr


TENSORBOARD = """
    x, y = torch.randn(16, 4), torch.arange(16) % 3
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    sgd = torch.optim.SGD(net.parameters(), 0.1)
    monitor = gramian.Monitor(net, sgd, nn.CrossEntropyLoss(), x, y, tensorboard=folder / "events", share=1.0)
    for _ in range(10):
        sgd.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        sgd.step()
    monitor.answer()
    monitor.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "events"))
    events.Reload()
    for name, series in monitor.trace.measured.items():
        of_layers = isinstance(series.values[0], dict)
        for label in series.labels if of_layers else [""]:
            read = events.Scalars(f"gramian/{name}" + (f"/{label}" if label else ""))
            assert [event.step for event in read] == series.steps, name
            values = series.of(label) if of_layers else series.values
            assert torch.allclose(torch.tensor([event.value for event in read]), torch.tensor(values)), name
    print("whole")
"""


def test_tensorboards_own_reader_finds_every_number(tmp_path):
    if find_spec("tensorboard") is None:
        pytest.skip("tensorboard is not installed: pip install tensorboard")
    code = textwrap.dedent(COMMON) + textwrap.dedent(TENSORBOARD)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.strip().endswith("whole"), done.stderr[-3000:]
