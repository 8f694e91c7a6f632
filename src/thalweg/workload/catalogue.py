"""Workloads by name, and the user's own by the path of a file."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from thalweg.core.errors import UnknownNameError, UsageError
from thalweg.workload import (
    criteo_dlrm,
    deep_linear,
    digits,
    digits_ctc,
    digits_vit,
    fastmri,
    fineweb_gpt,
    flights_dlrm,
    fmnist_resnet,
    imagenet,
    imbalanced_classes,
    librispeech,
    logistic_regression,
    matrix_factorisation,
    modular_addition,
    mri_unet,
    noisy_quadratic,
    ogbg_gnn,
    phonemes_transformer,
    plays_gpt,
    quadratic,
    rosenbrock,
    saddle,
    solubility_gin,
    text,
    wmt_transformer,
)
from thalweg.workload.own import load_file
from thalweg.workload.workload import Workload

_KNOWN: tuple[tuple[Mapping[str, Any], Callable[[], Workload]], ...] = (
    (digits.FACTS, digits.digits),
    (text.FACTS, text.text),
    # Real data: what AlgoPerf's workloads are, small.
    (fmnist_resnet.FACTS, fmnist_resnet.build),
    (digits_vit.FACTS, digits_vit.build),
    (mri_unet.FACTS, mri_unet.build),
    (digits_ctc.FACTS, digits_ctc.build),
    (flights_dlrm.FACTS, flights_dlrm.flights_dlrm),
    (solubility_gin.FACTS, solubility_gin.solubility_gin),
    (phonemes_transformer.FACTS, phonemes_transformer.phonemes_transformer),
    (plays_gpt.FACTS, plays_gpt.plays_gpt),
    # Known optima.
    (quadratic.FACTS, quadratic.quadratic),
    (noisy_quadratic.FACTS, noisy_quadratic.noisy_quadratic),
    (rosenbrock.FACTS, rosenbrock.rosenbrock),
    (saddle.FACTS, saddle.saddle),
    (logistic_regression.FACTS, logistic_regression.logistic_regression),
    (matrix_factorisation.FACTS, matrix_factorisation.matrix_factorisation),
    (deep_linear.FACTS, deep_linear.deep_linear),
    (modular_addition.FACTS, modular_addition.modular_addition),
    (imbalanced_classes.FACTS, imbalanced_classes.imbalanced_classes),
)
_FACTS: dict[str, Mapping[str, Any]] = {facts["name"]: facts for facts, _ in _KNOWN}
_BUILDERS: dict[str, Callable[[], Workload]] = {facts["name"]: build for facts, build in _KNOWN}

# Published data sets that the user has: name, and what builds the workload from their folder.
_PUBLISHED: dict[str, Callable[[Path], Workload]] = {
    "imagenet-resnet": imagenet.resnet,
    "imagenet-vit": imagenet.vit,
    "fastmri-unet": fastmri.build,
    "librispeech-ctc": librispeech.build,
    "criteo-dlrm": criteo_dlrm.criteo_dlrm,
    "ogbg-gnn": ogbg_gnn.ogbg_gnn,
    "wmt-transformer": wmt_transformer.wmt_transformer,
    "fineweb-gpt": fineweb_gpt.fineweb_gpt,
}
_RUNGS: dict[str, Callable[[], Workload]] = {"text-4x": text.text_4x}
"""Larger ones of the same, which `names` leaves out."""


def names() -> list[str]:
    """Return the names of the workloads that come with Thalweg."""
    return list(_BUILDERS)


def published() -> list[str]:
    """Return the names of the workloads on published data, which `load` takes with their folder."""
    return list(_PUBLISHED)


def describe() -> list[dict[str, Any]]:
    """Return what the workloads that come with Thalweg are, without reading their data.

    Each is a dict with the keys name, title, description, architecture, loss_name, metric_name,
    higher_is_better, batch_size, steps, evaluate_every, data_source and licence, and target and
    target_origin where it has a target.
    """
    return [dict(_FACTS[name]) for name in names()]


def load(name_or_path: str | Path) -> Workload:
    """Return a workload by its name, or the one that a Python file defines.

    Args:
        name_or_path: one of `names`, one of `published` with the folder of its data
            (``imagenet-resnet:/data/imagenet``), or the path of a file that ends in ``.py``.

    Raises:
        UsageError: there is no such name or file, its data are not installed, or the file or the
            folder cannot be used.
    """
    text = str(name_or_path)
    if text in _BUILDERS:
        return _BUILDERS[text]()
    if text in _RUNGS:
        return _RUNGS[text]()
    name, _, folder = text.partition(":")
    if name in _PUBLISHED:
        if not Path(folder).is_dir() or not folder:
            raise UsageError(
                f'the workload "{name}" reads published data from a folder of yours; found '
                f"{folder or 'no folder'!r}, give one: {name}:FOLDER"
            )
        # The name says where the data are, so that a race can load them again for its report.
        whole = Path(folder).resolve()
        return replace(_PUBLISHED[name](whole), name=f"{name}:{whole}")
    path = Path(text)
    if path.suffix == ".py" or path.exists() or len(path.parts) > 1:
        return load_file(path)
    raise UnknownNameError("workload", text, [*names(), *published()])
