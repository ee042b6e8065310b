"""The slowest samples as a reader knows them: a picture where they are images, their label, what the network says."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

from gramian.monitor.slow_samples import Slow
from gramian.monitor.watched import WatchedNetwork
from gramian.report.facts import SampleFacts

LEAST_PIXELS, MOST_PIXELS = 4, 96  # pixels a side: less is no image to look at, more is drawn at a fraction
MOST_NUMBERS = 3  # outputs of a regression that are written out


def named(seen: WatchedNetwork, slow: Slow, classes: Sequence[str] = ()) -> list[SampleFacts]:
    """Each slow row with its label, the network's answer, and its picture, as plain data."""
    run, (images, y) = seen.run, seen.pictures
    f, labels = run.train_outputs(), run.train.labels
    numbers = isinstance(y, Tensor) and y.is_floating_point() and f.shape[1] <= MOST_NUMBERS and not seen.positions
    facts_of_rows = []
    for row in slow.rows:
        label = said = None
        if labels is not None and f.shape[1] > 1:
            label = _class(int(labels[row]), classes)
            said = _class(int(f[row].argmax()), classes)
        elif numbers:
            assert y is not None
            label = ", ".join(f"{v:.3g}" for v in y[row].reshape(-1).tolist())
            said = ", ".join(f"{v:.3g}" for v in f[row].tolist())
        image = None if images is None else picture(images[row])
        number = int(seen.numbers[row])
        facts_of_rows.append(SampleFacts(row=number, label=label, said=said, numbers=numbers, image=image))
    return facts_of_rows


def picture(x: Tensor) -> str | None:
    """A PNG as a data URI of one sample of shape (1 or 3, h, w) or (h, w), from its smallest to its largest value."""
    if not x.is_floating_point() or x.ndim not in (2, 3) or (x.ndim == 3 and x.shape[0] not in (1, 3)):
        return None
    if min(x.shape[-2:]) < LEAST_PIXELS:
        return None
    x = x.detach().float().cpu().reshape(-1, *x.shape[-2:])
    # rounded up, so that no side is longer than `MOST_PIXELS`
    step = -(-max(x.shape[1:]) // MOST_PIXELS)
    x = x[:, ::step, ::step]
    low, high = float(x.min()), float(x.max())
    if high > low:
        shades = (x - low) / (high - low) * 255
    else:
        shades = torch.full_like(x, 128)
    return "data:image/png;base64," + base64.b64encode(_png(shades.round().to(torch.uint8))).decode()


def _png(shades: Tensor) -> bytes:
    """A PNG of bytes (1 or 3, h, w)."""
    channels, height, width = shades.shape
    rows = shades.permute(1, 2, 0).reshape(height, width * channels)
    raw = b"".join(b"\0" + bytes(row) for row in rows.tolist())  # each row without a filter
    head = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(raw, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


def _class(number: int, classes: Sequence[str]) -> str:
    if number < len(classes):
        return classes[number]
    return str(number)
