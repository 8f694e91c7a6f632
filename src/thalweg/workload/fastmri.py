"""`fastmri-unet`: single-coil knees of fastMRI and its U-Net.

The folder holds ``singlecoil_train`` and ``singlecoil_val`` with HDF5 files as they are published:
for each volume ``kspace`` (slices, h, w), complex, ``reconstruction_esc`` (slices, 320, 320), and
the attribute ``max``. Slices are read when they are needed.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thalweg.core.errors import UsageError
from thalweg.core.seeds import generator
from thalweg.workload.package import package_folder
from thalweg.workload.reconstruction import (
    Slices,
    absolute_error,
    random_masks,
    similarity,
    slices,
)
from thalweg.workload.unet import UNet
from thalweg.workload.workload import Workload


class Volumes:
    """The slices of all files of a folder, with new columns of k-space whenever they are read.

    Args:
        folder: of the files.
        fixed: whether each volume always has the same columns, drawn from its name; else they come
            from torch's global generator.

    Raises:
        UsageError: the folder has no file, or one that is not of the format.
    """

    def __init__(self, folder: Path, fixed: bool) -> None:
        self._fixed = fixed
        self._slices: list[tuple[Path, int]] = []
        for file in sorted(folder.glob("*.h5")):
            try:
                with _open(file) as volume:
                    kspace, targets = volume["kspace"].shape, volume["reconstruction_esc"].shape
                    float(volume.attrs["max"])
            except (OSError, KeyError) as error:
                raise UsageError(
                    f"{file} is no single-coil volume of fastMRI: {error}; expected kspace, "
                    "reconstruction_esc and the attribute max"
                ) from error
            if len(kspace) != 3 or kspace[0] != targets[0] or kspace[1:] < targets[1:]:
                raise UsageError(
                    f"{file}: kspace {kspace} and reconstruction_esc {targets} are no (slices, h, "
                    "w) of one length"
                )
            self._slices += [(file, number) for number in range(kspace[0])]
        if not self._slices:
            raise UsageError(f"found no *.h5 in {folder}; expected volumes of fastMRI")

    def __len__(self) -> int:
        return len(self._slices)

    def __getitem__(self, number: int) -> Slices:
        file, place = self._slices[number]
        with _open(file) as volume:
            kspace = torch.from_numpy(volume["kspace"][place])
            target = torch.from_numpy(volume["reconstruction_esc"][place]).float()
            largest = float(volume.attrs["max"])
        drawn = generator(0, "fastmri-unet", file.name) if self._fixed else None
        mask = random_masks(1, kspace.shape[1], generator=drawn)
        inputs = reconstructed(kspace * mask, target.shape[0], target.shape[1])
        return slices(inputs.unsqueeze(0), target.unsqueeze(0), torch.tensor([largest]))


def reconstructed(kspace: Tensor, height: int, width: int) -> Tensor:
    """Return the magnitude of the image of k-space (h, w), its middle (height, width), float32.

    Frequency 0 is in the middle of k-space and the transform is unitary, as in fastMRI.
    """
    image = torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(kspace), norm="ortho"))
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width].abs().float()


def build(folder: Path) -> Workload:
    """Return the workload: a U-Net of 4 levels from 32 channels, 7.8 million parameters.

    Target and steps are those of AlgoPerf 0.5: an SSIM of 0.723653, 18,094.

    Raises:
        UsageError: the package h5py is not installed, or the folder cannot be used.
    """
    package_folder("h5py", "fastmri-unet", extra="published")
    return Workload(
        name="fastmri-unet",
        title="fastMRI, U-Net",
        description="Knees from a random quarter of the columns of single-coil k-space.",
        architecture="A U-Net of 4 levels (32 to 256 channels, 512 at the bottom) with instance "
        "normalisation.",
        model=lambda: UNet(width=32, levels=4),
        train=Volumes(folder / "singlecoil_train", fixed=False),
        validation=Volumes(folder / "singlecoil_val", fixed=True),
        collate=_joined,
        loss=absolute_error,
        loss_name="mean absolute error",
        metric=similarity,
        metric_name="SSIM",
        higher_is_better=True,
        target=0.723653,
        target_origin="the validation target of AlgoPerf 0.5",
        batch_size=32,
        steps=18_094,
        evaluate_every=900,
        data_source=f"fastMRI (Zbontar et al., 2018) in {folder}",
        licence="the fastMRI Dataset Sharing Agreement",
    )


def _open(file: Path) -> Any:
    import h5py

    return h5py.File(file, "r")


def _joined(samples: list[Slices]) -> Slices:
    return Slices(*(torch.cat(parts) for parts in zip(*samples, strict=True)))
