"""Brains from a quarter of k-space."""

import gzip
import hashlib
import math
import struct

import pytest
import torch
from torch import nn

from thalweg.core.errors import UsageError
from thalweg.workload import Batches, mri_unet, reconstruction
from thalweg.workload.unet import UNet


def nifti(volume, kind=2):
    header = bytearray(352)
    struct.pack_into("<8h", header, 40, 3, *volume.shape, 1, 1, 1, 1)
    struct.pack_into("<h", header, 70, kind)
    struct.pack_into("<f", header, 108, 352.0)
    header[344:348] = b"n+1\0"
    return bytes(header) + volume.permute(2, 1, 0).contiguous().numpy().tobytes()


def test_network():
    torch.manual_seed(0)
    model = mri_unet.network()
    count = sum(parameter.numel() for parameter in model.parameters())
    assert f"{count:,} parameters" in mri_unet.FACTS["architecture"]
    images = torch.randn(2, 1, 96, 96)
    assert model(images).shape == images.shape
    assert torch.allclose(model(images)[:1], model(images[:1]), atol=1e-5)
    with torch.device("meta"):
        published = UNet(width=32, levels=4)
    # The published count of fastMRI's U-Net of 32 channels, in millions.
    assert round(sum(p.numel() for p in published.parameters()) / 1e6, 2) == 7.76


def test_masks_measure_the_middle_and_a_quarter():
    masks = reconstruction.random_masks(2000, 96, generator=torch.Generator().manual_seed(0))
    assert masks[:, 44:52].all()
    assert not masks[:, :44].all(0).any()
    assert float(masks.float().mean()) == pytest.approx(1 / 4, abs=0.005)
    outside = torch.cat([masks[:, :44], masks[:, 52:]], dim=1).float().mean(0)
    assert float((outside - 16 / 88).abs().max()) < 0.04
    fewer = reconstruction.random_masks(1, 100, acceleration=8, centre=0.04)
    assert fewer[0, 48:52].all()


def direct_transform(image, mask):
    """The zero-filled image by sums over all frequencies, in complex numbers."""
    height, width = image.shape
    rows, columns = torch.arange(height).double(), torch.arange(width).double()
    along = torch.exp(-2j * math.pi * rows[:, None] * rows / height)
    across = torch.exp(-2j * math.pi * columns[:, None] * (columns - width // 2) / width)
    kspace = along @ image.to(along.dtype) @ across * mask
    return (along.conj() @ kspace @ across.conj().T / (height * width)).abs()


def test_zero_filled_images_are_the_direct_transform():
    torch.manual_seed(0)
    images = torch.rand(2, 6, 8, dtype=torch.float64)
    masks = torch.tensor([[0, 0, 1, 0, 1, 1, 0, 0], [1, 0, 0, 1, 1, 0, 1, 0]], dtype=torch.bool)
    found = reconstruction.zero_filled(images, masks)
    for number in range(2):
        expected = direct_transform(images[number], masks[number].double())
        assert torch.allclose(found[number], expected, atol=1e-12)
    everything = reconstruction.zero_filled(images, torch.ones(2, 8, dtype=torch.bool))
    assert torch.allclose(everything, images, atol=1e-12)
    one = reconstruction.zero_filled(images, torch.arange(8).expand(2, 8) == 4)
    assert torch.allclose(one, images.mean(2, keepdim=True).expand_as(images), atol=1e-12)


def direct_similarity(one, other, span):
    """SSIM by a loop over windows, with torch's own variances and covariances."""
    values = []
    small, large = (0.01 * span) ** 2, (0.03 * span) ** 2
    for top in range(one.shape[0] - 6):
        for left in range(one.shape[1] - 6):
            both = torch.stack(
                [image[top : top + 7, left : left + 7].flatten() for image in (one, other)]
            )
            (m1, m2), cov = both.mean(1), torch.cov(both)
            values.append(
                (2 * m1 * m2 + small) * (2 * cov[0, 1] + large)
                / ((m1**2 + m2**2 + small) * (cov[0, 0] + cov[1, 1] + large))
            )  # fmt: skip
    return float(torch.stack(values).mean())


def test_similarity_is_the_formula():
    torch.manual_seed(0)
    one, other = torch.rand(2, 2, 1, 12, 10, dtype=torch.float64)
    other = 0.7 * one + 0.3 * other
    spans = torch.tensor([1.0, 2.5], dtype=torch.float64)
    found = reconstruction.structural_similarity(one, other, spans)
    for number in range(2):
        expected = direct_similarity(one[number, 0], other[number, 0], float(spans[number]))
        assert float(found[number]) == pytest.approx(expected, abs=1e-12)
    same = reconstruction.structural_similarity(one, one, spans)
    assert torch.allclose(same, torch.ones(2, dtype=torch.float64))


def test_similarity_is_that_of_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    torch.manual_seed(0)
    one, other = torch.rand(2, 1, 1, 24, 32, dtype=torch.float64)
    expected = metrics.structural_similarity(one[0, 0].numpy(), other[0, 0].numpy(), data_range=2.0)
    found = reconstruction.structural_similarity(one, other, torch.tensor([2.0]).double())
    assert float(found) == pytest.approx(expected, abs=1e-12)


def test_a_batch_is_scaled_like_its_inputs_and_back():
    torch.manual_seed(0)
    images = torch.rand(3, 96, 96)
    batch = mri_unet.measured(images, reconstruction.random_masks(3, 96), 1.0)
    assert torch.allclose(batch.inputs.mean((1, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(batch.inputs.std((1, 2, 3)), torch.ones(3), atol=1e-3)
    back = batch.targets[:, 0] * batch.deviation[:, None, None] + batch.mean[:, None, None]
    assert torch.allclose(back, images, atol=1e-6)
    perfect = reconstruction.similarity(lambda inputs: batch.targets, batch)
    assert torch.allclose(perfect, torch.ones(3).double())
    worse = reconstruction.similarity(nn.Identity(), batch)
    assert worse.shape == (3,)
    assert (worse < 0.9).all()


def test_columns_are_new_at_each_step_and_fixed_by_the_seed():
    torch.manual_seed(0)
    data = mri_unet.Undersampled(torch.rand(4, 96, 96), 1.0)
    joined = mri_unet._joined

    def batch(seed, step):
        return Batches(data, 4, seed=seed, collate=joined).at(step)

    first, again = batch(0, 0), batch(0, 0)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert isinstance(first, reconstruction.Slices)
    means = [sorted(batch(seed, step).mean.tolist()) for seed, step in ((0, 0), (0, 1), (1, 0))]
    deviations = [
        sorted(batch(seed, step).deviation.tolist()) for seed, step in ((0, 0), (0, 1), (1, 0))
    ]
    assert len(means) == 3
    assert deviations[0] != deviations[1] != deviations[2]
    assert data[1].inputs.shape == (1, 1, 96, 96)


def test_steps_lower_the_loss():
    torch.manual_seed(0)
    model, images = mri_unet.network(), torch.rand(2, 24, 24).cumsum(1).cumsum(2) / 300
    batch = reconstruction.slices(
        reconstruction.zero_filled(images, reconstruction.random_masks(2, 24)),
        images,
        torch.ones(2),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(4):
        loss = reconstruction.absolute_error(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)


def test_volumes_are_read_in_their_order():
    volume = torch.arange(24, dtype=torch.uint8).view(2, 3, 4)
    assert torch.equal(mri_unet.read_nifti(nifti(volume)), volume)
    for wrong in (nifti(volume, kind=4), nifti(volume)[:100], b"n+1"):
        with pytest.raises(UsageError, match="NIfTI-1 file of unsigned bytes"):
            mri_unet.read_nifti(wrong)
    with pytest.raises(UsageError, match=r"whole NIfTI-1 volume, found shape \[2, 3, 4\]"):
        mri_unet.read_nifti(nifti(volume)[:-1])


def test_slices_in_three_directions():
    volume = torch.zeros(100, 120, 80, dtype=torch.uint8)
    volume[10:90, 10:110, 10:70] = 200
    images = mri_unet.cut(volume, every=1)
    assert images.shape == (80 + 100 + 60, 96, 96)
    assert float(images.max()) == 200
    # Slices across x show y and z, in the middle of 192 mm: 36 + 10 and 56 + 10 mm from the edge.
    expected = torch.zeros(96, 96)
    expected[23:73, 33:63] = 200
    assert torch.equal(images[0], expected)
    assert len(mri_unet.cut(volume, every=4)) == 20 + 25 + 15


def test_real_brains(real):
    found = real("mri-unet")
    assert len(found.train) == 418
    assert found.validation.inputs.shape == (101, 1, 96, 96)
    zero_filled = found.metric(nn.Identity(), found.validation)
    assert float(zero_filled.mean()) == pytest.approx(0.544, abs=0.001)


def test_sources_are_verified_and_named(monkeypatch, tmp_path):
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path))
    package = tmp_path / "nilearn"
    (package / "datasets" / "data").mkdir(parents=True)
    sources = tmp_path / "data" / "sources" / "mricron-data"
    sources.mkdir(parents=True)
    volume = torch.arange(24, dtype=torch.uint8).view(2, 3, 4)
    content = gzip.compress(nifti(volume))
    (package / "datasets" / "data" / mri_unet.TRAIN_FILE).write_bytes(content)
    (sources / mri_unet.HELD_OUT_FILE).write_bytes(content)
    monkeypatch.setattr(mri_unet, "package_folder", lambda *names, **extra: package)
    with pytest.raises(UsageError, match="not the known file"):
        mri_unet._prepare()
    for known in ("TRAIN_SHA256", "HELD_OUT_SHA256"):
        monkeypatch.setattr(mri_unet, known, hashlib.sha256(content).hexdigest())
    volumes = mri_unet._prepare()
    assert torch.equal(volumes["icbm152"], volume)
    assert torch.equal(volumes["colin27"], volume)


def test_a_missing_package_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path))
    monkeypatch.setattr("thalweg.workload.package.importlib.util.find_spec", lambda name: None)
    mri_unet._data.cache_clear()
    with pytest.raises(UsageError, match=r'nilearn.*pip install "thalweg\[mri\]"'):
        mri_unet.build()
