"""Where the channels of images and series are: on axis 1 inside, on axis 1 or the last outside."""

from __future__ import annotations

import numpy as np

from gramian.errors import BadArgument

LAYOUTS = ("auto", "channels-first", "channels-last")
IMAGE_CHANNELS = (1, 3, 4)  # of images: grey, color, color with transparency


def channels_first(x: np.ndarray, layout: str, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Inputs with their channels on axis 1, and a note that says how they were read; tables pass.

    Args:
        x: shape (n, d), (n, h, w) or (n, c, l), (n, c, h, w) or (n, h, w, c).
        layout: "channels-first", "channels-last", or "auto": bytes of rank 3 are grey images; of rank 4 the axis that
            has 1, 3 or 4 entries holds the channels; other arrays have theirs on axis 1.
        where: the file, for errors.

    Raises:
        BadArgument: an unknown word, or both axes of images could hold the channels.
    """
    if layout not in LAYOUTS:
        raise BadArgument(
            f"layout={layout!r} is unknown.",
            where="layout (--layout)",
            why="channels are on axis 1 or on the last one.",
            fix="layout='channels-first' or 'channels-last' (--layout), or leave it out.",
        )
    if x.ndim == 2:
        return x, ()
    if layout == "auto" and x.ndim == 3 and x.dtype == np.uint8:
        return x[:, None], ("Bytes of shape (n, h, w) were read as grey images (n, 1, h, w).",)
    last = layout == "channels-last"
    if layout == "auto" and x.ndim == 4:
        first, last = x.shape[1] in IMAGE_CHANNELS, x.shape[3] in IMAGE_CHANNELS
        if first and last and x.shape[1] != x.shape[3]:
            raise BadArgument(
                f"images of shape {x.shape[1:]} have their channels on the first axis or on the last one.",
                where=where,
                why=f"both {x.shape[1]} and {x.shape[3]} may be a number of channels.",
                fix="layout='channels-first' or 'channels-last' (--layout).",
            )
        last = last and not first
    shape = ", ".join(map(str, x.shape[1:]))
    kind = {3: "Series", 4: "Images"}.get(x.ndim, "Arrays")
    if last:
        old, new = {3: ("(n, l, c)", "(n, c, l)"), 4: ("(n, h, w, c)", "(n, c, h, w)")}.get(x.ndim, ("last", "first"))
        note = f"{kind} of shape ({shape}) were brought from {old} to {new}: their {x.shape[-1]} channels come last."
        return np.moveaxis(x, -1, 1), (note,)
    other = 'layout="channels-last" (--layout) reads them the other way'
    return x, (f"{kind} of shape ({shape}) were read with their {x.shape[1]} channels first; {other}.",)
