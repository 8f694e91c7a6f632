"""`digits-ctc`: spoken strings of digits and a recurrent network, as LibriSpeech in small."""

import contextlib
import io
import os
import shutil
import subprocess
import wave
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.core.seeds import generator
from thalweg.workload.cache import data_folder, prepared
from thalweg.workload.fetched import find, unpacked_debian
from thalweg.workload.speech import (
    SpeechNet,
    Utterances,
    ctc_loss,
    features,
    symbol_errors,
    together,
)
from thalweg.workload.threads import each
from thalweg.workload.workload import Workload

MELS = 40
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ACCENTS = (
    "en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029",
)  # fmt: skip
VOICES = (
    "adam", "Alex", "Alicia", "Andrea", "Andy", "antonio", "belinda", "benjamin", "boris", "caleb",
    "david", "Denis", "Diogo", "ed", "edward", "f1", "f3", "f4", "Gene", "grandma", "gustave",
    "Henrique", "Hugo", "iven", "john", "kaukovalta", "klatt", "klatt3", "Lee", "linda", "m1", "m2",
    "m4", "m5", "m7", "m8", "Mario", "max", "michel", "miguel", "Mike", "norbert", "pablo",
    "pedro", "quincy", "rob", "sandro", "steph", "travis", "zac",
)  # fmt: skip
HELD_OUT_VOICES = (
    "anika", "Annie", "f2", "f5", "Jacky", "klatt2", "m3", "m6", "Michael", "paul", "shelby",
    "victor",
)  # fmt: skip
TRAIN, HELD_OUT = 2048, 384

# The number of digits of an utterance; each as often, so that an error of a string over MEAN is
# its part of all errors over all digits.
LENGTHS = (3, 4, 5, 6)
MEAN = 4.5

FACTS: dict[str, Any] = {
    "name": "digits-ctc",
    "title": "Spoken digits",
    "description": "The digits that a synthetic voice says, 3 to 6 of them, in seven English "
    "accents at different speeds and pitches: 2,048 strings by 50 voices to train on, 384 by 12 "
    "other voices to validate on.",
    "architecture": "Two convolutions over time with stride 2 and two layers of gated recurrent "
    "units in both directions, width 96, on 40 mel features every 10 ms: 346,379 parameters.",
    "loss_name": "connectionist temporal classification",
    "metric_name": "character error rate",
    "higher_is_better": False,
    "batch_size": 32,
    "steps": 600,
    "evaluate_every": 60,
    "target": 0.025,
    "target_origin": "AdamW (lr 0.003, clipped at norm 1, warm-up, linear) had 0.035 after 300 of "
    "600 steps and 0.021 after 450 and at the end, one seed; SGD (lr 0.05, momentum 0.9, not "
    "tuned) 0.032 at the end",
    "data_source": "spoken by the program eSpeak NG, as in the Debian package espeak-ng",
    "licence": "GPL-3.0-or-later (the program; what it says is not covered)",
}


class Utterance(NamedTuple):
    """What is said and how: digits, accent, voice, words a minute, and pitch from 0 to 99."""

    digits: tuple[int, ...]
    accent: str
    voice: str
    speed: int
    pitch: int


def build() -> Workload:
    """Return the workload.

    Its data depend on the version of eSpeak NG; those of each version are kept apart.

    Raises:
        UsageError: eSpeak NG is not installed and its Debian packages cannot be downloaded.
    """
    train, validation = _data()
    return Workload(
        model=network,
        train=train,
        validation=validation,
        loss=ctc_loss,
        metric=character_error,
        **FACTS,
    )


def network() -> nn.Module:
    """Return a new network."""
    return SpeechNet(MELS, width=96, layers=2, classes=1 + len(WORDS))


def character_error(model: nn.Module, batch: Utterances) -> Tensor:
    """Return each string's errors over the mean length of all strings, (n,).

    The mean over the strings of the validation data is all errors over all digits.
    """
    return symbol_errors(model, batch) / MEAN


def plan(count: int, voices: tuple[str, ...], stream: str) -> list[Utterance]:
    """Return what is said: the voices, accents and lengths in turn, the rest at random."""
    random = generator(0, "digits-ctc", stream)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=random))

    return [
        Utterance(
            digits=tuple(draw(0, 10) for _ in range(LENGTHS[number % len(LENGTHS)])),
            accent=ACCENTS[draw(0, len(ACCENTS))],
            voice=voices[number // len(LENGTHS) % len(voices)],
            speed=draw(130, 211),
            pitch=draw(30, 71),
        )
        for number in range(count)
    ]


@lru_cache(maxsize=1)
def _data() -> tuple[Utterances, Utterances]:
    name = "spoken-digits-espeak-"
    known = sorted(file.stem for file in data_folder().glob(f"{name}*.safetensors"))
    if known and shutil.which("espeak-ng") is None:
        kept = prepared(known[-1], dict)  # spoken before, by a program that was fetched for it
    else:
        with _program() as (command, environment):
            version = _version(command, environment)
            kept = prepared(f"{name}{version}", lambda: _prepare(command, environment))
    train, held_out = (
        Utterances(*(kept[f"{part}.{field}"] for field in Utterances._fields))
        for part in ("train", "held_out")
    )
    return train, held_out


def _prepare(command: str, environment: dict[str, str]) -> dict[str, Tensor]:
    listed = _run([command, "--voices=variant"], environment).decode(errors="replace").split()
    missing = [voice for voice in VOICES + HELD_OUT_VOICES if f"!v/{voice}" not in listed]
    if missing:
        raise UsageError(
            f"{command} lacks the voices {', '.join(missing)}; install the Debian package "
            "espeak-ng-data"
        )

    def speak(said: Utterance) -> Tensor:
        words = " ".join(WORDS[digit] for digit in said.digits)
        options = [
            "-v",
            f"{said.accent}+{said.voice}",
            "-s",
            str(said.speed),
            "-p",
            str(said.pitch),
        ]
        return heard(_run([command, *options, "--stdout", words], environment))

    kept = {}
    for part, count, voices in (("train", TRAIN, VOICES), ("held_out", HELD_OUT, HELD_OUT_VOICES)):
        planned = plan(count, voices, part)
        symbols = [torch.tensor(said.digits, dtype=torch.uint8) + 1 for said in planned]
        batch = together(each(speak, planned), symbols)
        kept |= {f"{part}.{field}": value for field, value in batch._asdict().items()}
    return kept


def heard(sound: bytes) -> Tensor:
    """Return the features (frames, mels) of a WAV file of one channel of 16 bits.

    Raises:
        UsageError: it is no such file, or has no sound.
    """
    try:
        with wave.open(io.BytesIO(sound)) as opened:
            rate, channels, width = (
                opened.getframerate(),
                opened.getnchannels(),
                opened.getsampwidth(),
            )
            samples = opened.readframes(opened.getnframes())
    except (wave.Error, EOFError) as error:
        raise UsageError(f"eSpeak NG gave no WAV file: {error}") from error
    if channels != 1 or width != 2 or len(samples) < rate // 5:
        raise UsageError(
            f"eSpeak NG gave {len(samples)} bytes of {channels} channels of {8 * width} bits; "
            "expected at least a tenth of a second of one channel of 16 bits"
        )
    return features(torch.frombuffer(bytearray(samples), dtype=torch.int16), rate, MELS)


@contextlib.contextmanager
def _program() -> Iterator[tuple[str, dict[str, str]]]:
    """Give the program and the environment that it runs in."""
    environment = dict(os.environ)
    installed = shutil.which("espeak-ng")
    if installed is not None:
        yield installed, environment
        return
    hint = (
        'the workload "digits-ctc" lets the program espeak-ng speak, which is not installed; '
        "apt-get install espeak-ng"
    )
    packages = ["espeak-ng", "espeak-ng-data", "libespeak-ng1", "libpcaudio0", "libsonic0"]
    with unpacked_debian(packages, hint) as folder:
        command = folder / "usr" / "bin" / "espeak-ng"
        files = [path for path in folder.rglob("*") if path.is_file()]
        voices = find(files, "espeak-ng-data/phontab").parent
        environment["LD_LIBRARY_PATH"] = str(voices.parent)
        environment["ESPEAK_DATA_PATH"] = str(voices.parent)
        yield str(command), environment


def _version(command: str, environment: dict[str, str]) -> str:
    said = _run([command, "--version"], environment).decode(errors="replace")
    words = said.partition(":")[2].split()
    if not words or not words[0].replace(".", "").replace("-", "").isalnum():
        raise UsageError(f"{command} --version names no version: {said.strip()!r}")
    return words[0]


def _run(command: list[str], environment: dict[str, str]) -> bytes:
    done = subprocess.run(command, env=environment, capture_output=True)
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
        raise UsageError(f"{' '.join(command)} failed: {reason}")
    return done.stdout
