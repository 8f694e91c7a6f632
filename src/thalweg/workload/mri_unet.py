"""`mri-unet`: slices of brains from a quarter of k-space and a U-Net, as fastMRI in small."""

import gzip
import struct
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.core.seeds import generator
from thalweg.workload.cache import prepared, verified
from thalweg.workload.fetched import debian_files, find
from thalweg.workload.package import package_folder
from thalweg.workload.reconstruction import (
    Slices,
    absolute_error,
    random_masks,
    similarity,
    slices,
    zero_filled,
)
from thalweg.workload.unet import UNet
from thalweg.workload.workload import Workload

SIZE = 96

TRAIN_FILE = "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
TRAIN_SHA256 = "421a10e872fd6cadae7f61d358dffbcc1795a497d61ee76c5dda2503e1a1e9e6"
HELD_OUT_FILE = "ch2bet.nii.gz"
HELD_OUT_SHA256 = "592a2d20abdf36eefcb540ca8958428040edffc1bc1a18ba1dcfbabac77c5dd1"
DIGEST = "e5945ffcf230532eea5bdf17ec25b8cc540b3c0a9dff3a1793f898bba5c43471"

FACTS: dict[str, Any] = {
    "name": "mri-unet",
    "title": "Brain slices from a quarter of k-space",
    "description": "The image, 96 x 96 at 2 mm, of which a random quarter of the columns of "
    "k-space was measured, with new columns at every step: slices of the mean of 152 brains in "
    "three directions to train on, slices of another person's brain to validate on.",
    "architecture": "A U-Net of 3 levels (8, 16 and 32 channels, 64 at the bottom) with instance "
    "normalisation: 120,273 parameters.",
    "loss_name": "mean absolute error",
    "metric_name": "SSIM",
    "higher_is_better": True,
    "batch_size": 8,
    "steps": 400,
    "evaluate_every": 40,
    "target": 0.765,
    "target_origin": "AdamW (lr 0.003, warm-up, linear) had 0.748 after 200 of 400 steps, 0.769 "
    "after 300 and 0.775 at the end, one seed; SGD (lr 0.05, momentum 0.9, not tuned) 0.727; "
    "the zero-filled images have 0.544",
    "data_source": "ICBM 152 (Fonov et al., 2009), as in the package nilearn, and the brain of the "
    "MNI's Colin 27 (Holmes et al., 1998), as in the Debian package mricron-data",
    "licence": "the McConnell Brain Imaging Centre's: free use, copying and distribution with its "
    "notice (data); BSD-3-Clause (nilearn, mricron-data)",
}


class Undersampled:
    """Slices (n, h, w) whose k-space is measured in new columns whenever they are read.

    The columns come from torch's global generator.
    """

    def __init__(self, images: Tensor, largest: float) -> None:
        self._images = images
        self._largest = largest

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, number: int) -> Slices:
        return self.__getitems__([number])

    def __getitems__(self, numbers: list[int]) -> Slices:
        images = self._images[torch.tensor(numbers)]
        return measured(images, random_masks(len(images), SIZE), self._largest)


def measured(images: Tensor, masks: Tensor, largest: float) -> Slices:
    """Return the batch of images (n, h, w) of which columns of k-space (n, w) were measured."""
    return slices(zero_filled(images, masks), images, torch.full((len(images),), largest))


def build() -> Workload:
    """Return the workload.

    Raises:
        UsageError: the package nilearn is not installed, the Debian package mricron-data can
            neither be found nor downloaded, or their files are not the known ones.
    """
    train, validation = _data()
    return Workload(
        model=network,
        train=train,
        validation=validation,
        loss=absolute_error,
        metric=similarity,
        collate=_joined,
        **FACTS,
    )


def network() -> nn.Module:
    """Return a new U-Net."""
    return UNet(width=8, levels=3)


def read_nifti(content: bytes) -> Tensor:
    """Return the volume (x, y, z), uint8, of a NIfTI-1 file of unscaled unsigned bytes.

    Raises:
        UsageError: it is another kind of file.
    """
    header = content[:348]
    if (
        len(header) < 348
        or header[344:347] != b"n+1"
        or struct.unpack_from("<h", header, 70) != (2,)
    ):
        raise UsageError("expected a little-endian NIfTI-1 file of unsigned bytes")
    dimensions, *shape = struct.unpack_from("<4h", header, 40)
    offset = int(struct.unpack_from("<f", header, 108)[0])
    size = torch.Size(shape).numel()
    if dimensions != 3 or min(shape) < 1 or len(content) < offset + size:
        raise UsageError(f"expected a whole NIfTI-1 volume, found shape {shape[:dimensions]}")
    values = torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=offset, count=size)
    return values.view(*reversed(shape)).permute(2, 1, 0).contiguous()


def cut(volume: Tensor, every: int) -> Tensor:
    """Return each ``every``-th slice that shows brain in the three directions, (n, 96, 96).

    The volume (x, y, z) of 1 mm is put into the middle of 192 mm and averaged over 2 x 2 pixels of
    the slice; a slice shows brain if at least a tenth of its pixels is above 0.
    """
    side = 2 * SIZE
    padding = []
    for length in reversed(volume.shape):
        before = (side - length) // 2
        padding += [before, side - length - before]
    cube = F.pad(volume, padding)
    chosen = []
    for direction in range(3):
        images = cube.movedim(direction, 0)
        shown = (images > 0).float().mean((1, 2)) >= 0.1
        images = images[shown][::every].float()
        chosen.append(F.avg_pool2d(images.unsqueeze(1), 2).squeeze(1))
    return torch.cat(chosen)


@lru_cache(maxsize=1)
def _data() -> tuple[Undersampled, Slices]:
    volumes = prepared("brains", _prepare, DIGEST)
    train, held_out = volumes["icbm152"] / 255, volumes["colin27"] / volumes["colin27"].max()
    images = cut(held_out, every=4)
    masks = random_masks(len(images), SIZE, generator=generator(0, "mri-unet", "masks"))
    return Undersampled(cut(train, every=1), 1.0), measured(images, masks, 1.0)


def _joined(batch: Any) -> Any:
    return batch


def _prepare() -> dict[str, Tensor]:
    name = FACTS["name"]
    package = package_folder("nilearn", name, extra="mri") / "datasets" / "data"
    train = read_nifti(gzip.decompress(verified(package / TRAIN_FILE, TRAIN_SHA256)))
    with debian_files("mricron-data", name) as files:
        content = verified(find(files, HELD_OUT_FILE), HELD_OUT_SHA256)
    return {"icbm152": train, "colin27": read_nifti(gzip.decompress(content))}
