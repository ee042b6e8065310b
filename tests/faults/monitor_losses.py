"""Losses of every kind in loops that a monitor meets: how they count rows, classes and positions, and models' own."""

from __future__ import annotations

import torch
from monitor_loops import LOOPS, Loop, by_name
from monitor_models import (
    C,
    D,
    Frames,
    Labelled,
    N,
    Seq2Seq,
    Spans,
    classes,
    contrastive,
    ctc,
    ctc_targets,
    mlp,
    numbers,
    rows,
    tokens,
    triplet,
)  # fmt: skip
from torch import nn
from torch.nn import functional as F

ce, mse, bce = nn.CrossEntropyLoss(), nn.MSELoss(), nn.BCEWithLogitsLoss()
LOOPS |= {
    # losses
    "sum": Loop(mlp, nn.CrossEntropyLoss(reduction="sum")),
    "none": Loop(mlp, nn.CrossEntropyLoss(reduction="none"), step=lambda n, x, y: F.cross_entropy(n(x), y)),
    "none of MSE": Loop(lambda: mlp(1), nn.MSELoss(reduction="none"), y=numbers, step=lambda n, x, y: mse(n(x), y)),
    "a loss of a tuple": Loop(mlp, lambda f, y: (ce(f, y), 3), step=lambda n, x, y: ce(n(x), y)),
    "a loss of a dict": Loop(mlp, lambda f, y: {"loss": ce(f, y)}, step=lambda n, x, y: ce(n(x), y)),
    "a loss of a number": Loop(mlp, lambda f, y: float(ce(f, y)), step=lambda n, x, y: ce(n(x), y), watched=False),
    "a loss that raises": Loop(mlp, lambda f, y: 1 / 0, step=lambda n, x, y: ce(n(x), y), watched=False),
    "ignore_index": Loop(mlp, y=lambda: torch.where(torch.arange(N) % 4 == 0, -100, classes())),
    "another ignore_index": Loop(mlp, nn.CrossEntropyLoss(ignore_index=2)),
    "all ignored": Loop(mlp, given=(ce, rows(), torch.full((N,), -100)), watched=False),
    "label smoothing": Loop(mlp, nn.CrossEntropyLoss(label_smoothing=0.1)),
    "class weights": Loop(mlp, nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5]))),
    "class shares": Loop(mlp, y=lambda: torch.eye(C)[classes()]),
    "classes in a column": Loop(mlp, y=lambda: classes()[:, None], step=lambda n, x, y: ce(n(x), y[:, 0])),
    "int32 classes": Loop(mlp, y=lambda: classes().int(), step=lambda n, x, y: ce(n(x), y.long())),
    "functional": Loop(mlp, F.cross_entropy),
    "nll": Loop(lambda: nn.Sequential(mlp(), nn.LogSoftmax(1)), nn.NLLLoss()),
    "hinge": Loop(mlp, nn.MultiMarginLoss()),
    "L1": Loop(lambda: mlp(1), nn.L1Loss(), y=numbers),
    "Huber": Loop(lambda: mlp(1), nn.HuberLoss(), y=numbers),
    "MSE with class numbers": Loop(mlp, mse, step=lambda n, x, y: mse(n(x), F.one_hot(y, C).float()), watched=False),
    "MSE with whole numbers": Loop(lambda: mlp(1), mse, step=lambda n, x, y: mse(n(x)[:, 0], y.float())),
    "BCE with whole numbers": Loop(
        lambda: mlp(1), bce, y=lambda: classes(c=2), step=lambda n, x, y: bce(n(x)[:, 0], y.float())
    ),
    "BCE of probabilities": Loop(
        lambda: nn.Sequential(mlp(1), nn.Sigmoid()), nn.BCELoss(), y=lambda: classes(c=2)[:, None].float()
    ),
    "many labels": Loop(mlp, bce, y=lambda: (numbers(c=C) > 0).float()),
    "many whole labels": Loop(mlp, bce, y=lambda: (numbers(c=C) > 0).long(), step=lambda n, x, y: bce(n(x), y.float())),
    "classes outside": Loop(mlp, given=(ce, rows(), classes() + 5), watched=False),
    "Gauss": Loop(lambda: mlp(2), lambda f, y: F.gaussian_nll_loss(f[:, :1], y, f[:, 1:].exp()), y=numbers),
    "triplet": Loop(mlp, triplet),
    "contrastive": Loop(mlp, contrastive),
    "CTC": Loop(Frames, ctc, x=lambda: rows(N * 9).reshape(N, 9, D), y=ctc_targets),
    "adversarial": Loop(mlp, "adversarial", step="given"),
    "no targets": Loop(
        lambda: mlp(D),
        lambda f, y: f.square().mean(),
        given=(lambda f, y: f.square().mean(), rows(), None),
        step=lambda n, x, y: n(x).square().mean(),
    ),
    "no targets at all": Loop(mlp, given=(ce, rows(), None), watched=False),
    # positions
    "segmentation": Loop(
        lambda: nn.Conv2d(3, 4, 1),
        x=lambda: rows(d=48).reshape(N, 3, 4, 4),
        y=lambda: tokens(N, 16, 4).reshape(N, 4, 4),
    ),
    "segmentation with ignored pixels": Loop(
        lambda: nn.Conv2d(3, 4, 1),
        x=lambda: rows(d=48).reshape(N, 3, 4, 4),
        y=lambda: tokens(N, 16, 4).reshape(N, 4, 4).masked_fill(torch.arange(4) < 1, -100),
    ),
    "dice": Loop(
        lambda: nn.Conv2d(3, 4, 1),
        lambda f, y: 1 - (f.softmax(1) * F.one_hot(y, 4).movedim(3, 1)).mean(),
        x=lambda: rows(d=48).reshape(N, 3, 4, 4),
        y=lambda: tokens(N, 16, 4).reshape(N, 4, 4),
    ),
    "binary segmentation": Loop(
        lambda: nn.Conv2d(3, 1, 1),
        bce,
        x=lambda: rows(d=48).reshape(N, 3, 4, 4),
        y=lambda: (rows(d=16) > 0).float().reshape(N, 1, 4, 4),
    ),
    "images for images": Loop(
        lambda: nn.Conv2d(3, 3, 3, padding=1),
        mse,
        x=lambda: rows(d=48).reshape(N, 3, 4, 4),
        y=lambda: rows(d=48).reshape(N, 3, 4, 4),
    ),
    "a language model": Loop(
        lambda: nn.Sequential(nn.Embedding(7, 4), nn.Tanh(), nn.Linear(4, 7)),
        x=tokens,
        y=tokens,
        step=lambda n, x, y: ce(n(x).flatten(0, 1), y.flatten()),
    ),
    # own losses
    "own loss": Loop(Labelled, None, x=lambda: {"x": rows()}, step=by_name),
    "own loss, many labels": Loop(
        Labelled, None, x=lambda: {"x": rows()}, y=lambda: (numbers(c=C) > 0).float(), step=by_name
    ),
    "encoder and decoder": Loop(Seq2Seq, None, x=lambda: {"input_ids": tokens()}, y=tokens, step=by_name),
    "question answering": Loop(
        Spans,
        None,
        x=lambda: {"input_ids": tokens(), "start_positions": tokens()[:, 0] % 5, "end_positions": tokens()[:, 1] % 5},
        y=lambda: None,
        step=lambda n, x, y: n(**x).loss,
    ),
    "no own loss": Loop(mlp, None, step=lambda n, x, y: ce(n(x), y), watched=False),
}
