"""`imagenet-resnet` and `imagenet-vit`: ILSVRC 2012 with ResNet-50 and ViT-S/16.

The folder holds the data in a form that Hugging Face datasets reads by itself: parquet files named
``train-*`` and ``validation-*`` with the columns ``image`` and ``label``, or folders ``train`` and
``val`` (or ``validation``) with a folder of images for each class. Images are read and cropped when
they are needed.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.workload.classification import ImageBatch, accuracy, cross_entropy
from thalweg.workload.package import package_folder
from thalweg.workload.resnet import ResNet
from thalweg.workload.threads import each
from thalweg.workload.vision_transformer import VisionTransformer
from thalweg.workload.workload import Workload

SIZE = 224

# Means and deviations of the red, green and blue of ImageNet, for values from 0 to 1.
_MEAN = torch.tensor([0.485, 0.456, 0.406])
_DEVIATION = torch.tensor([0.229, 0.224, 0.225])


# PIL's numbers for what is done with an image.
_BILINEAR, _FLIP = 2, 0


class Pictures:
    """Images of a data set with their labels, cropped to 224 x 224.

    For training, a random part of 8 to 100 % of the area with sides from 3:4 to 4:3, flipped with
    probability a half (Szegedy et al., 2015), from torch's global generator; else the middle, after
    the shorter side became 256.

    Args:
        rows: ``rows[numbers]`` is a dict of lists: ``image``, each a dict with the file's ``bytes``
            or else its ``path``, and ``label``.
        train: whether crops are random.
    """

    def __init__(self, rows: Any, train: bool) -> None:
        self._rows = rows
        self._train = train

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> ImageBatch:
        return self.__getitems__([number])

    def __getitems__(self, numbers: list[int]) -> ImageBatch:
        rows = self._rows[numbers]
        # One seed for each image: which thread reads it first must not matter.
        seeds = torch.randint(2**62, (len(numbers),)).tolist()
        images = each(self._read, zip(rows["image"], seeds, strict=True))
        return torch.stack(images), torch.tensor(rows["label"])

    def _read(self, file_and_seed: tuple[dict[str, Any], int]) -> Tensor:
        from PIL import Image

        file, seed = file_and_seed
        source = file["path"] if file["bytes"] is None else io.BytesIO(file["bytes"])
        try:
            with Image.open(source) as opened:
                image = opened.convert("RGB")
        except OSError as error:
            raise UsageError(f"cannot read the image {file['path']}: {error}") from error
        if self._train:
            return tensor(random_crop(image, torch.Generator().manual_seed(seed)))
        return tensor(middle(image))


def resnet(folder: Path) -> Workload:
    """Return `imagenet-resnet`: ResNet-50, 25.6 million parameters.

    Target and steps are those of AlgoPerf 0.5: an accuracy of 0.77431, 195,999.

    Raises:
        UsageError: the package datasets is not installed, or the folder cannot be used.
    """
    return _workload(
        "imagenet-resnet",
        "ResNet-50",
        folder,
        lambda classes: ResNet(
            3,
            classes,
            widths=(64, 128, 256, 512),
            blocks=(3, 4, 6, 3),
            bottleneck=True,
            kernel=7,
            pool=True,
        ),
        target=0.77431,
        steps=195_999,
    )


def vit(folder: Path) -> Workload:
    """Return `imagenet-vit`: ViT-S/16, 22 million parameters.

    Target and steps are those of AlgoPerf 0.5: an accuracy of 0.77309, 167,999.

    Raises:
        UsageError: the package datasets is not installed, or the folder cannot be used.
    """
    return _workload(
        "imagenet-vit",
        "ViT-S/16",
        folder,
        lambda classes: VisionTransformer(3, SIZE, 16, classes, width=384, heads=6, depth=12),
        target=0.77309,
        steps=167_999,
    )


def _workload(
    name: str,
    title: str,
    folder: Path,
    model: Callable[[int], nn.Module],
    target: float,
    steps: int,
) -> Workload:
    train, validation, classes = _data(name, folder)
    return Workload(
        name=name,
        title=f"ImageNet, {title}",
        description="Which of the classes of ILSVRC 2012 a colour image of 224 x 224 shows.",
        architecture=title,
        model=lambda: model(classes),
        train=train,
        validation=validation,
        collate=_joined,
        loss=cross_entropy,
        loss_name="cross-entropy",
        metric=accuracy,
        metric_name="accuracy",
        higher_is_better=True,
        target=target,
        target_origin="the validation target of AlgoPerf 0.5",
        batch_size=1024,
        steps=steps,
        evaluate_every=2500,
        data_source=f"ILSVRC 2012 (Russakovsky et al., 2015) in {folder}",
        licence="ImageNet's terms: research and teaching without profit",
    )


def _data(name: str, folder: Path) -> tuple[Pictures, Pictures, int]:
    for package in ("datasets", "PIL"):
        package_folder(package, name, extra="published")
    from datasets import Image, load_dataset

    try:
        found: Any = load_dataset(str(folder))
        parts = [found[part].select_columns(["image", "label"]) for part in ("train", "validation")]
        parts = [part.cast_column("image", Image(decode=False)) for part in parts]
        classes = 1 + max(max(part.unique("label")) for part in parts)
    except Exception as error:
        raise UsageError(
            f"{name}: {folder} cannot be read: {error}; expected parquet files train-* and "
            "validation-* with the columns image and label, or folders train and val with a folder "
            "of images for each class"
        ) from error
    return Pictures(parts[0], train=True), Pictures(parts[1], train=False), classes


def random_crop(image: Any, generator: torch.Generator) -> Any:
    """Return a random part of an image of PIL's, 224 x 224, perhaps flipped."""
    width, height = image.size
    share, ratio, left, top, flip = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
    area = (0.08 + 0.92 * share) * width * height
    stretch = (4 / 3) ** (2 * ratio - 1)
    wide = min(width, max(1, round((area * stretch) ** 0.5)))
    high = min(height, max(1, round((area / stretch) ** 0.5)))
    left, top = int(left * (width - wide + 1)), int(top * (height - high + 1))
    box = (left, top, left + wide, top + high)
    cropped = image.resize((SIZE, SIZE), resample=_BILINEAR, box=box)
    return cropped.transpose(_FLIP) if flip < 0.5 else cropped


def middle(image: Any) -> Any:
    """Return the middle of an image of PIL's, 224 of 256 parts of its shorter side, 224 x 224."""
    width, height = image.size
    side = min(width, height) * SIZE / 256
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    return image.resize((SIZE, SIZE), resample=_BILINEAR, box=box)


def tensor(image: Any) -> Tensor:
    """Return the colours of an image of PIL's, (3, h, w), scaled as ImageNet's are."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    return (pixels - _MEAN[:, None, None]) / _DEVIATION[:, None, None]


def _joined(batch: Any) -> Any:
    return batch
