"""Folders of images: a subfolder a class, PNG or JPEG files in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gramian.errors import BadData

from .raw import Raw
from .wording import listed

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
TRAINING, TEST = ("train", "training"), ("test", "val", "valid", "validation")
GREY_MODES = ("1", "L")  # Pillow's modes


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Images in files, decoded when rows are picked; bytes of shape (n, c, h, w).

    Args:
        paths: one a row.
        mode: Pillow's "L" (grey) or "RGB".
        size: height and width.
    """

    paths: tuple[Path, ...]
    mode: str
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        if self.mode == "L":
            channels = 1
        else:
            channels = 3
        picked: Sequence[int] | np.ndarray = rows
        if isinstance(rows, slice):
            picked = range(len(self.paths))[rows]
        out = np.empty((len(picked), channels, *self.size), np.uint8)
        for i, row in enumerate(picked):
            image = _opened(self.paths[int(row)], self.mode)
            out[i] = np.asarray(image).reshape(*self.size, channels).transpose(2, 0, 1)
        return out


def read_images(folder: Path) -> Raw:
    """The images of a folder with a subfolder a class; with subfolders `train` and `test`, their classes.

    Raises:
        BadData: no images, images of several sizes, a file that is no image, or Pillow is not installed.
    """
    subfolders = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_dir()}
    training = next((subfolders[name] for name in TRAINING if name in subfolders), None)
    test = next((subfolders[name] for name in TEST if name in subfolders), None)
    split = training is not None and test is not None and not _images_in(training)
    of_training = folder
    if split and training is not None:
        of_training = training
    paths, labels, classes = _listed(of_training)
    if not paths:
        raise BadData(
            "no data in this folder.",
            where=f"{folder}, which holds {_contents(folder)}",
            why="read are images in a subfolder a class, the four idx files of MNIST and Fashion-MNIST, and "
            "cifar10*.npz.",
            fix="FOLDER/CLASS/IMAGE.png, a subfolder a class; or another folder.",
        )
    if len(classes) < 2:
        raise BadData(
            f"all {len(paths)} images are of one class, {classes[0]!r}.",
            where=str(folder),
            why="the names of the subfolders are the classes, and only one holds images.",
            fix="a subfolder for each class, in the folder that is given.",
        )
    mode, size, notes = _looked_at(paths)
    images = ImageFiles(tuple(paths), mode, size)
    held: tuple[Any, np.ndarray] | None = None
    if split and test is not None:
        paths_test, labels_test, classes_test = _listed(test)
        _refuse_other_classes(classes, classes_test, test)
        mode_test, size_test, _ = _looked_at(paths_test)
        if size_test != size:
            raise _sizes(paths_test[0], size_test, paths[0], size)
        codes = np.array([classes.index(classes_test[label]) for label in labels_test], np.int64)
        held = ImageFiles(tuple(paths_test), mode, size), codes
        if mode_test != mode:
            kind = {"L": "grey", "RGB": "color"}[mode]
            notes = (*notes, f"Test images were read as {kind}, as the training images.")
    return Raw(
        folder.name,
        str(folder),
        images,
        np.array(labels, np.int64),
        tuple(classes),
        held,
        scale=255.0,
        notes=notes,
    )


def _images_in(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in IMAGE_ENDINGS and not path.name.startswith(".")
    )


def _listed(folder: Path) -> tuple[list[Path], list[int], list[str]]:
    """Paths, class numbers and class names."""
    paths: list[Path] = []
    labels: list[int] = []
    classes: list[str] = []
    for sub in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        images = _images_in(sub)
        if images:
            paths += images
            labels += [len(classes)] * len(images)
            classes.append(sub.name)
    return paths, labels, classes


def _contents(folder: Path) -> str:
    names = sorted(_shown(path) for path in folder.iterdir())
    if not names:
        return "nothing"
    return listed(names, 8)


def _shown(path: Path) -> str:
    """A name, with a slash if it is a folder's."""
    if path.is_dir():
        return f"{path.name}/"
    return path.name


def _refuse_other_classes(classes: list[str], of_test: list[str], test: Path) -> None:
    new = [name for name in of_test if name not in classes]
    if new:
        raise BadData(
            f"class {new[0]!r} has test images and no training images.",
            where=str(test / new[0]),
            why="the subfolders of training and test images have different names.",
            fix="the same subfolders in both.",
        )


def _looked_at(paths: list[Path]) -> tuple[str, tuple[int, int], tuple[str, ...]]:
    """The one mode and size of all images, from their headers, with a note on what is converted."""
    grey, alpha, size = 0, 0, (0, 0)
    for path in paths:
        image = _opened(path)
        here = (image.height, image.width)
        if path is paths[0]:
            size = here
        if here != size:
            raise _sizes(path, here, paths[0], size)
        grey += image.mode in GREY_MODES
        alpha += image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
        if image.mode.startswith(("I", "F")):
            raise BadData(
                f"an image of mode {image.mode}: more than 8 bits a pixel.",
                where=str(path),
                why="grey values of 16 or 32 bits, as from a scanner or a microscope.",
                fix="np.savez(path, x=..., y=...) with numbers of your own scale.",
            )
    notes = []
    if 0 < grey < len(paths):
        notes.append(f"{grey:,} of {len(paths):,} images are grey; all were read with three channels.")
    if alpha:
        notes.append(f"The transparency of {alpha:,} of {len(paths):,} images was not used.")
    if grey == len(paths):
        return "L", size, tuple(notes)
    return "RGB", size, tuple(notes)


def _sizes(path: Path, size: tuple[int, int], first: Path, others: tuple[int, int]) -> BadData:
    return BadData(
        f"an image of {size[1]} x {size[0]} pixels among images of {others[1]} x {others[0]}.",
        where=f"{path}; the first image, {first.name}, has {others[1]} x {others[0]}",
        why="a network takes inputs of one size, and cropping or stretching is a choice.",
        fix="bring all images to one size, e.g. with PIL.ImageOps.fit.",
    )


def _opened(path: Path, mode: str | None = None) -> Any:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise BadData(
            "reading images needs Pillow, which is not installed.",
            where=str(path),
            why="it is an optional dependency, for folders of images alone.",
            fix='pip install "gramian[images]", or pip install pillow.',
        ) from None
    try:
        with Image.open(path) as image:
            if mode is None:
                return image
            return image.convert(mode)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise BadData(
            f"the image cannot be read: {str(error).partition(chr(10))[0]}",
            where=f"{path} ({path.stat().st_size} bytes)",
            why="it is truncated, or not an image.",
            fix="save or download it again, or take it out of the folder.",
        ) from None
