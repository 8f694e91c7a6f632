"""`librispeech-ctc`: LibriSpeech and a recurrent network in the manner of Deep Speech 2.

The folder holds the parts as they are published: ``train-clean-100``, ``train-clean-360``,
``train-other-500`` (those that are there), ``dev-clean`` and ``dev-other``, each with folders of
speakers and chapters that hold FLAC files and one ``*.trans.txt``. Recordings are read when they
are needed.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.workload.package import package_folder
from thalweg.workload.speech import (
    SpeechNet,
    Utterances,
    ctc_loss,
    decoded,
    edit_distance,
    features,
    together,
)
from thalweg.workload.threads import each
from thalweg.workload.workload import Workload

MELS = 80
RATE = 16_000
TRAIN = ("train-clean-100", "train-clean-360", "train-other-500")
CHARACTERS = " 'ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # the first is symbol 1, after the blank


class Recordings:
    """The recordings of parts of LibriSpeech with their texts.

    Args:
        parts: folders of parts; those that do not exist are left out.

    Raises:
        UsageError: there is no recording, or a text has other characters than `CHARACTERS`.
    """

    def __init__(self, parts: list[Path]) -> None:
        self._found: list[tuple[Path, str]] = []
        for listing in sorted(file for part in parts for file in part.glob("*/*/*.trans.txt")):
            for line in listing.read_text(encoding="utf-8").splitlines():
                name, _, text = line.partition(" ")
                strange = set(text) - set(CHARACTERS)
                if strange or not text:
                    raise UsageError(
                        f"{listing}: {name} has the text {text!r}; expected capital letters, "
                        "apostrophes and spaces"
                    )
                self._found.append((listing.with_name(f"{name}.flac"), text))
        if not self._found:
            raise UsageError(
                f"found no */*/*.trans.txt in {', '.join(map(str, parts))}; expected parts of "
                "LibriSpeech as they are published"
            )

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """Return features (frames, mels), uint8, and symbols (symbols,), uint8."""
        import soundfile

        file, text = self._found[number]
        try:
            sound, rate = soundfile.read(file, dtype="int16")
        except (OSError, soundfile.LibsndfileError) as error:
            raise UsageError(f"cannot read {file}: {error}") from error
        if rate != RATE or sound.ndim != 1 or len(sound) < RATE // 10:
            raise UsageError(
                f"{file} has {rate} samples a second in an array of shape {sound.shape}; expected "
                f"at least a tenth of a second of one channel at {RATE}"
            )
        return features(torch.from_numpy(sound), rate, MELS), spell(text)

    def __getitems__(self, numbers: list[int]) -> list[tuple[Tensor, Tensor]]:
        return each(self.__getitem__, numbers)

    def words(self) -> float:
        """Return the mean number of words of a text."""
        return sum(len(text.split()) for _, text in self._found) / len(self._found)


def spell(text: str) -> Tensor:
    """Return the symbols of a text, (symbols,), uint8, from 1."""
    return torch.tensor([1 + CHARACTERS.index(character) for character in text], dtype=torch.uint8)


def words(symbols: list[int]) -> list[str]:
    """Return the words that symbols spell."""
    return str.join("", (CHARACTERS[symbol - 1] for symbol in symbols)).split()


def build(folder: Path) -> Workload:
    """Return the workload: 28 million parameters.

    The metric is the word error rate of greedy decoding: the errors of each utterance over the mean
    number of words of all of them, whose mean is all errors over all words. Target and
    steps are those of AlgoPerf 0.5 for its Deep Speech model: 0.119936, 38,400.

    Raises:
        UsageError: the package soundfile is not installed, or the folder cannot be used.
    """
    package_folder("_soundfile_data", "librispeech-ctc", extra="published")
    train = Recordings([folder / part for part in TRAIN])
    validation = Recordings([folder / part for part in ("dev-clean", "dev-other")])
    mean = validation.words()

    def word_error(model: nn.Module, batch: Utterances) -> Tensor:
        return word_errors(model, batch) / mean

    return Workload(
        name="librispeech-ctc",
        title="LibriSpeech",
        description="The text of read English, letter by letter.",
        architecture="Two convolutions over time with stride 2 and six layers of gated recurrent "
        "units in both directions, width 512, on 80 mel features every 10 ms.",
        model=lambda: SpeechNet(MELS, width=512, layers=6, classes=1 + len(CHARACTERS)),
        train=train,
        validation=validation,
        collate=_joined,
        loss=ctc_loss,
        loss_name="connectionist temporal classification",
        metric=word_error,
        metric_name="word error rate",
        higher_is_better=False,
        target=0.119936,
        target_origin="the validation target of AlgoPerf 0.5",
        batch_size=256,
        steps=38_400,
        evaluate_every=750,
        data_source=f"LibriSpeech (Panayotov et al., 2015) in {folder}",
        licence="CC BY 4.0",
    )


def word_errors(model: nn.Module, batch: Utterances) -> Tensor:
    """Return the least edits of words from each decoded text to the true one, (n,)."""
    return torch.tensor(
        [edit_distance(words(found), words(true)) for found, true in decoded(model, batch)],
        dtype=torch.float64,
    )


def _joined(samples: list[tuple[Tensor, Tensor]]) -> Utterances:
    spoken, symbols = zip(*samples, strict=True)
    return together(spoken, symbols)
