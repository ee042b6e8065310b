"""The cost of a computation in numbers that a busy machine does not change."""

import torch
from torch.overrides import TorchFunctionMode


class CountedNumbers(TorchFunctionMode):
    """How many numbers torch's functions returned, called in Python, while this was entered."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.count += result.numel()
        return result


def numbers_computed(function):
    """How many numbers torch's functions return to Python while `function()` runs."""
    with CountedNumbers() as numbers:
        function()
    return numbers.count
