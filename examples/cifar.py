"""CIFAR-10 and CIFAR-100 with the networks on which SWA, FGE and SWALP were published.

Download the binary version of either from https://www.cs.toronto.edu/~kriz/cifar.html, unpack it,
and say where it is and which network to train: vgg16, preresnet164 or wrn-28-10::

    CIFAR=cifar-100-binary NETWORK=vgg16 thalweg train examples/cifar.py \
        "sgd(lr=0.05, momentum=0.9, weight_decay=5e-4) + swa-constant(start=1, rate=0.01)"

Networks, augmentation and batches of 128 are those of the code of Izmailov et al., 2018, arXiv
1803.05407 (github.com/timgaripov/swa), except that the last 80 images of an epoch's order, which
fill no batch, are left out: 390 steps an epoch. Validation data are the 10,000 test images.
"""

import os
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

FOLDER = Path(os.environ.get("CIFAR", "cifar-100-binary"))
NETWORK = os.environ.get("NETWORK", "vgg16")

title = f"{FOLDER.name}, {NETWORK}"
metric_name = "accuracy"
batch_size = 128
steps = 200 * 390
evaluate_every = 20 * 390
data_source = f"CIFAR (Krizhevsky, 2009) in {FOLDER}"

# Means and deviations of red, green and blue that the published runs scaled by.
SCALES = {
    "vgg16": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "preresnet164": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "wrn-28-10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
}


class Images:
    """Images as bytes; in training each is shifted by up to 4 pixels and flipped at random."""

    def __init__(self, images, labels, random):
        self.images, self.labels, self.random = images, labels, random
        mean, deviation = (torch.tensor(x)[:, None, None] for x in SCALES[NETWORK])
        self.scaled = lambda bytes_: (bytes_ / 255 - mean) / deviation

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, number):
        return self.__getitems__([number])

    def __getitems__(self, numbers):
        images, labels = self.images[numbers], self.labels[numbers]
        if self.random:
            count = len(numbers)
            images = functional.pad(images, (4, 4, 4, 4))  # black, as before scaling
            rows, columns = torch.randint(9, (2, count, 1)) + torch.arange(32)
            flip = torch.rand(count, 1) < 0.5
            columns = torch.where(flip, columns.flip(1), columns)
            place = torch.arange(count)[:, None, None]
            images = images.movedim(1, 3)[place, rows[:, :, None], columns[:, None]].movedim(3, 1)
        return self.scaled(images.float()), labels


def collate(batch):
    """Return a batch as it is: the images of one are read together."""
    return batch


def data():
    """Return the training images and the test images."""
    fine = (FOLDER / "train.bin").exists()
    names = ["train.bin"] if fine else [f"data_batch_{i}.bin" for i in range(1, 6)]
    train = [read(FOLDER / name, 2 if fine else 1) for name in names]
    test = read(FOLDER / ("test.bin" if fine else "test_batch.bin"), 2 if fine else 1)
    images, labels = (torch.cat(parts) for parts in zip(*train, strict=True))
    return Images(images, labels, True), Images(*test, False)


def read(file, labels):
    """Return images (n, 3, 32, 32), uint8, and the last of so many labels of each (n,)."""
    if not file.exists():
        raise FileNotFoundError(f"{file} is missing; set CIFAR to the folder of the binary version")
    rows = torch.from_numpy(np.fromfile(file, np.uint8).reshape(-1, labels + 3 * 32 * 32))
    return rows[:, labels:].reshape(-1, 3, 32, 32), rows[:, labels - 1].long()


def loss(model, batch):
    """Return the cross-entropy."""
    images, labels = batch
    return functional.cross_entropy(model(images), labels)


def metric(model, batch):
    """Return for each image whether it was recognised."""
    images, labels = batch
    return (model(images).argmax(1) == labels).float()


def model():
    """Build the network that NETWORK names."""
    classes = 100 if (FOLDER / "train.bin").exists() else 10
    return {"vgg16": vgg16, "preresnet164": preresnet164, "wrn-28-10": wrn}[NETWORK](classes)


def vgg16(classes):
    """Thirteen convolutions and three linear layers, no batch norm, dropout of a half."""
    layers, channels = [], 3
    for stage, (width, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))):
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(
            nn.MaxPool2d(2) if stage < 4 else nn.Sequential(nn.MaxPool2d(2), nn.Flatten())
        )
    for _ in range(2):
        layers += [nn.Dropout(), nn.Linear(512, 512), nn.ReLU()]
    return he_normal(nn.Sequential(*layers, nn.Linear(512, classes)))


def preresnet164(classes):
    """Three stages of 18 bottlenecks, normalised before each convolution."""
    layers, channels = [nn.Conv2d(3, 16, 3, padding=1, bias=False)], 16
    for stage, width in enumerate((16, 32, 64)):
        for block in range(18):
            stride = 2 if stage and not block else 1
            inner = (
                *normalised(nn.Conv2d(channels, width, 1, bias=False)),
                *normalised(nn.Conv2d(width, width, 3, stride, padding=1, bias=False)),
                *normalised(nn.Conv2d(width, 4 * width, 1, bias=False)),
            )
            shortcut = nn.Conv2d(channels, 4 * width, 1, stride, bias=False)
            layers.append(Residual(inner, nn.Identity() if block else shortcut))
            channels = 4 * width
    return he_normal(nn.Sequential(*layers, *head(channels, classes)))


def wrn(classes):
    """A wide residual network: three stages of four blocks, 160, 320 and 640 channels."""
    layers, channels = [nn.Conv2d(3, 16, 3, padding=1)], 16
    for stage, width in enumerate((160, 320, 640)):
        for block in range(4):
            stride = 2 if stage and not block else 1
            inner = (
                *normalised(nn.Conv2d(channels, width, 3, padding=1)),
                *normalised(nn.Conv2d(width, width, 3, stride, padding=1)),
            )
            shortcut = nn.Conv2d(channels, width, 1, stride)
            layers.append(Residual(inner, nn.Identity() if block else shortcut))
            channels = width
    return nn.Sequential(*layers, *head(channels, classes))


class Residual(nn.Module):
    """Layers added to their input, or to a convolution of it."""

    def __init__(self, inner, shortcut):
        super().__init__()
        self.inner, self.shortcut = nn.Sequential(*inner), shortcut

    def forward(self, images):
        """Return the sum."""
        return self.inner(images) + self.shortcut(images)


def normalised(convolution):
    """Return a convolution with batch norm and ReLU before it."""
    return nn.BatchNorm2d(convolution.in_channels), nn.ReLU(), convolution


def head(channels, classes):
    """Return what follows the last stage."""
    pool = nn.Sequential(nn.AvgPool2d(8), nn.Flatten())
    return nn.BatchNorm2d(channels), nn.ReLU(), pool, nn.Linear(channels, classes)


def he_normal(network):
    """Draw the weights of convolutions by He's rule for what goes out of them."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network
