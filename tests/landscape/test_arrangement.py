"""Batches in pieces and with channels last: the same losses, and only where that is right."""

import pytest
import torch
from torch import nn

from thalweg.core.errors import UsageError
from thalweg.landscape import Objective, arrangement

IMAGES = torch.randn(50, 1, 12, 12, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(50) % 4


class Net(nn.Module):
    def __init__(self, flat):
        super().__init__()
        torch.manual_seed(1)
        self.convolution, self.head = nn.Conv2d(1, 3, 3, padding=1), nn.Linear(432, 4)
        self.flat = flat

    def forward(self, x):
        return self.head(self.flat(self.convolution(x).relu()))


class Mean(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(1, 4)

    def forward(self, x):
        return self.head(x.mean((1, 2, 3)).unsqueeze(1))


def mean(model, batch):
    return nn.functional.cross_entropy(model(batch["x"]), batch["y"])


def seen(loss, flat=None, model=None):
    """An objective on one batch, and the images of its last evaluation."""
    model = model or Net(flat or nn.Flatten())
    images = []

    def watched(model, batch):
        images.append(batch["x"])
        return loss(model, batch)

    objective = Objective(model, watched, [{"x": IMAGES, "y": LABELS}])
    images.clear()
    return objective, objective.value(), images


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    # The largest output of the net is 50 times 1728 bytes.
    monkeypatch.setattr(arrangement, "PIECE", 20_000)


def test_pieces_have_channels_last_and_the_same_mean():
    objective, value, images = seen(mean)
    assert [len(x) for x in images] == [10] * 5
    assert all(x.stride() == (144, 1, 12, 1) for x in images)
    assert torch.equal(torch.cat(images), IMAGES)
    with torch.no_grad():
        expected = float(mean(objective.model, {"x": IMAGES, "y": LABELS}))
    assert value == pytest.approx(expected, rel=1e-6)
    with objective.around([[torch.ones_like(p) for p in objective.trainable()]]) as loss_at:
        assert loss_at((0.0,)) == value


def in_batch_softmax(model, batch):
    out = model(batch["x"])
    return nn.functional.cross_entropy(out @ out.mT, torch.arange(len(out)))


def total(model, batch):
    return len(batch["x"]) * mean(model, batch)


@pytest.mark.parametrize("loss", [in_batch_softmax, total])
def test_what_is_no_mean_over_samples_stays_whole(loss):
    _, _, images = seen(loss)
    assert [len(x) for x in images] == [50]
    assert images[0] is IMAGES


def test_a_model_that_takes_no_such_batches_gets_its_own():
    _, _, images = seen(mean, flat=lambda x: x.view(-1, 432))
    assert images[0] is IMAGES


def test_small_batches_of_no_images_are_left_alone():
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 4))
    _, _, images = seen(mean, model=model)
    assert [len(x) for x in images] == [25, 25]  # the output of flattening is 28,800 bytes
    _, _, images = seen(mean, model=Mean())
    assert images[0] is IMAGES


def test_noise_is_noticed_in_pieces_too():
    with pytest.raises(UsageError, match="not deterministic"):
        seen(lambda model, batch: mean(model, batch) * (1 + 1e-6 * torch.rand(())))
