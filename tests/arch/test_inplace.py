"""Calls in place: read where the graph shows their effect, refused where it does not."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gramian import architecture
from gramian.errors import NoLimit


class Net(nn.Module):
    def __init__(self, inplace=True):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(8, 1)
        self.inplace = inplace


class WrittenThenAdded(Net):
    def forward(self, x):
        h = self.a(x)
        out = self.b(F.relu(h, inplace=self.inplace))
        h = h if self.inplace else F.relu(h)  # in place, h is relu(h) by now
        return self.c(out + h).mean(1)


class ViewUsedAlone(Net):
    def forward(self, x):
        h = self.a(x)[:, :2].squeeze(1)
        return self.c(F.relu(h, inplace=self.inplace)).mean(1)


class WrittenThroughAView(Net):
    def forward(self, x):
        h = self.a(x)
        h[:, :2].relu_()
        return self.c(h).mean(1)


class ViewOfWhatIsWritten(Net):
    def forward(self, x):
        h = self.a(x)
        first = h[:, :2]
        h.relu_()
        return self.c(first).mean(1)


@pytest.mark.parametrize("net", [WrittenThenAdded, ViewUsedAlone])
def test_a_write_is_seen_by_later_uses(net):
    x = torch.randn(3, 4, 3)
    torch.testing.assert_close(architecture(net(), x).ntk(x), architecture(net(inplace=False), x).ntk(x))


@pytest.mark.parametrize("net", [WrittenThroughAView, ViewOfWhatIsWritten])
def test_a_write_that_the_graph_hides_is_refused(net):
    text = r"(?s)`relu_` writes in place.*read again.*test_inplace.py:\d+: h.*relu_\(\).*fix: write the call without"
    with pytest.raises(NoLimit, match=text):
        architecture(net(), torch.randn(3, 4, 3))
