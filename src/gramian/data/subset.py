"""Which rows are trained on and which are tested on: drawn once, by seed, in proportion to the classes."""

from __future__ import annotations

import numpy as np

from gramian.errors import BadArgument


def stratified_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """An order of the rows in which every prefix and every suffix holds the classes in proportion.

    Within its class, a row drawn as number r of c gets the key r / c; rows are sorted by key. So the first C rows are
    one of each class, the first k rows are a subset of the first k + 1, and a class of one row is never in the tail.

    Args:
        labels: one label a row, integers; shape (n,).
        seed: of the draw. Only the generator's raw stream is used, which numpy keeps the same for ever.

    Returns:
        A permutation of 0 .. n - 1; shape (n,).

    Example:
        >>> labels = np.array([0, 0, 0, 0, 1, 1])
        >>> [int((labels[stratified_order(labels, seed)[:3]] == 1).sum()) for seed in range(5)]
        [1, 1, 1, 1, 1]
    """
    random = np.random.Generator(np.random.PCG64(seed))
    within, ties = random.random(len(labels)), random.random(len(labels))
    by_class = np.lexsort((within, labels))
    _, first, count = np.unique(labels[by_class], return_index=True, return_counts=True)
    # the k-th row of a class with c rows has the key k/c: each head of the order has all classes by their shares
    key = (np.arange(len(labels)) - np.repeat(first, count)) / np.repeat(count, count)
    return by_class[np.lexsort((ties, key))]


def default_n_test(available: int) -> int:
    """Test rows where there is no official test set: 20 %, at most 1000."""
    return min(1000, round(available / 5))


def split(labels: np.ndarray, n: int | None, n_test: int | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows to test on, disjoint, each sorted; shapes (n,), (n_test,).

    Training rows are the head of the stratified order, test rows its tail: with one seed and `n_test`, a larger `n`
    adds rows and takes none away.

    Raises:
        BadArgument: there are fewer rows than asked for.
    """
    available = len(labels)
    enough(n, available, "training")
    if n_test is None:
        n_test = min(default_n_test(available), available - (n or 1))
    if n_test < 0 or (n or 1) + n_test > available:
        asked: int | str = "at least 1"
        if n is not None:
            asked = n
        raise BadArgument(
            f"{asked} training and {n_test} test rows were asked for; there are {available} in all.",
            where=f"n={n}, n_test={n_test}",
            why="this data has no official test set, so test rows are taken out of its rows.",
            fix=f"n={max(1, available - default_n_test(available))}, n_test={default_n_test(available)}.",
        )
    order = stratified_order(labels, seed)
    if n is None:
        n = available - n_test
    return np.sort(order[:n]), np.sort(order[available - n_test :])


def head(labels: np.ndarray, n: int | None, seed: int, what: str) -> np.ndarray:
    """`n` stratified rows, sorted; all of them for None."""
    enough(n, len(labels), what)
    if n is None:
        return np.arange(len(labels))
    return np.sort(stratified_order(labels, seed)[:n])


def enough(n: int | None, available: int, what: str) -> None:
    """Raise BadArgument unless `n` rows can be had."""
    if what == "test":
        least, argument = 0, "n_test"
    else:
        least, argument = 1, "n"
    if n is not None and not least <= n <= available:
        raise BadArgument(
            f"{n} {what} rows were asked for; there are {available}.",
            where=f"{argument}={n}",
            why=f"a subset has at least {least} and at most all rows.",
            fix=f"a number from {least} to {available}, or leave it out.",
        )
