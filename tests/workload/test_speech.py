"""Spoken digits: features, the network, decoding, and who speaks."""

import io
import itertools
import math
import struct
import wave

import numpy as np
import pytest
import torch

from thalweg.core.errors import UsageError
from thalweg.workload import digits_ctc, speech
from thalweg.workload.cache import prepared
from thalweg.workload.speech import Utterances, edit_distance, features, greedy


def tone(frequency, seconds=0.5, rate=16_000):
    return (8000 * torch.sin(2 * math.pi * frequency * torch.arange(seconds * rate) / rate)).short()


def batch():
    torch.manual_seed(0)
    return speech.together(
        [torch.randint(100, 256, (frames, 6), dtype=torch.uint8) for frames in (20, 33, 48)],
        [torch.tensor(text, dtype=torch.uint8) for text in ([1, 2], [3, 3, 1], [2])],
    )


def small_network():
    torch.manual_seed(1)
    return speech.SpeechNet(6, width=8, layers=2, classes=4)


def test_network():
    model = digits_ctc.network()
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == 346_379
    assert f"{count:,} parameters" in digits_ctc.FACTS["architecture"]


def test_features_are_the_direct_formula():
    torch.manual_seed(0)
    sound, rate, mels = torch.randint(-9000, 9000, (1700,)).short(), 16_000, 5
    found = features(sound, rate, mels)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    mel = np.linspace(*(2595 * np.log10(1 + np.array([60, 7600]) / 700)), mels + 2)
    corners = 700 * (10 ** (mel / 2595) - 1)
    frequencies = np.arange(257) * rate / 512
    rows = []
    for start in range(0, 1700 - 512 + 1, 160):
        piece = np.zeros(512)
        piece[56:456] = window
        power = np.abs(np.fft.rfft(piece * sound[start : start + 512].numpy())) ** 2
        rows.append(
            [
                math.log(power @ np.interp(frequencies, corners[i : i + 3], [0, 1, 0]))
                for i in range(mels)
            ]
        )
    logarithms = np.array(rows)
    expected = np.clip(np.round(255 + (logarithms - logarithms.max()) / 0.125), 0, 255)
    assert found.dtype == torch.uint8
    assert np.array_equal(found.numpy(), expected)


def test_a_tone_is_loudest_where_it_lies():
    loudest = [
        int(features(tone(f), 16_000, 40).float().mean(0).argmax()) for f in (200, 1000, 4000)
    ]
    assert loudest == sorted(set(loudest))
    quiet = features(tone(1000) // 100, 16_000, 40)
    assert int(quiet.max()) == 255  # the same, however loud


def test_greedy_decoding_leaves_out_repeats_then_blanks():
    paths = torch.tensor([[0, 1, 1, 0, 1, 2, 2, 0], [3, 3, 0, 0, 3, 0, 2, 2], [0] * 8])
    logarithms = torch.nn.functional.one_hot(paths, 4).float().log_softmax(2)
    assert greedy(logarithms, torch.tensor([8, 6, 8])) == [[1, 1, 2], [3, 3], []]


def slow_distance(one, other):
    """The definition, by recursion."""
    if not one or not other:
        return len(one) + len(other)
    return min(
        slow_distance(one[1:], other) + 1,
        slow_distance(one, other[1:]) + 1,
        slow_distance(one[1:], other[1:]) + (one[0] != other[0]),
    )


def test_edit_distance():
    texts = [list(text) for size in range(4) for text in itertools.product((1, 2), repeat=size)]
    for one, other in itertools.product(texts, texts):
        assert edit_distance(one, other) == slow_distance(one, other)
    assert edit_distance("kitten", "sitting") == 3


def test_errors_are_counted_against_a_made_up_network():
    truth = batch()

    def says(features, frames):
        paths = torch.tensor([[1, 0, 2, 0, 0], [3, 3, 1, 0, 0], [0, 0, 0, 2, 3]])
        return torch.nn.functional.one_hot(paths, 4).float(), torch.tensor([5, 5, 4])

    # "1 2" is right; "3 1" lacks a 3 of "3 3 1"; "2" is right, for the 3 lies beyond the end.
    assert speech.symbol_errors(says, truth).tolist() == [0, 1, 0]
    found = digits_ctc.character_error(says, truth)
    assert found.tolist() == pytest.approx([0, 1 / 4.5, 0])


def test_loss_is_the_sum_over_all_alignments():
    torch.manual_seed(0)
    logarithms = torch.randn(1, 5, 4).double().log_softmax(2)
    text = [1, 1]
    total = 0.0
    for path in itertools.product(range(4), repeat=5):
        spelt = [symbol for symbol, _ in itertools.groupby(path) if symbol]
        if spelt == text:
            total += math.exp(sum(float(logarithms[0, t, c]) for t, c in enumerate(path)))
    said = Utterances(
        torch.zeros(1, 20, 6, dtype=torch.uint8),
        torch.tensor([20]),
        torch.tensor([[*text, 0]], dtype=torch.uint8),
        torch.tensor([2]),
    )
    found = speech.ctc_loss(lambda features, frames: (logarithms, torch.tensor([5])), said)
    assert float(found) == pytest.approx(-math.log(total) / 2, rel=1e-5)


def test_what_lies_beyond_the_end_has_no_influence():
    model, said = small_network().eval(), batch()
    together, steps = model(said.features.float() / 100, said.frames)
    assert steps.tolist() == [5, 9, 12]
    assert together.shape == (3, 12, 4)
    for number, frames in enumerate(said.frames.tolist()):
        alone, _ = model(
            said.features[number : number + 1, :frames].float() / 100,
            said.frames[number : number + 1],
        )
        assert torch.allclose(alone[0], together[number, : steps[number]], atol=1e-5)
    mangled = said.features.clone()
    mangled[0, 20:] = 255
    again = speech.symbol_errors(model, said._replace(features=mangled))
    assert torch.equal(again, speech.symbol_errors(model, said))


def test_steps_lower_the_loss():
    model, said = small_network(), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for _ in range(4):
        loss = speech.ctc_loss(model, said)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)


def test_held_out_voices_are_not_in_training():
    train = digits_ctc.plan(digits_ctc.TRAIN, digits_ctc.VOICES, "train")
    held_out = digits_ctc.plan(digits_ctc.HELD_OUT, digits_ctc.HELD_OUT_VOICES, "held_out")
    assert {said.voice for said in train} == set(digits_ctc.VOICES)
    assert {said.voice for said in held_out} == set(digits_ctc.HELD_OUT_VOICES)
    assert not set(digits_ctc.VOICES) & set(digits_ctc.HELD_OUT_VOICES)
    assert len(digits_ctc.VOICES) == 50
    assert len(digits_ctc.HELD_OUT_VOICES) == 12
    for planned in (train, held_out):
        lengths = [len(said.digits) for said in planned]
        assert sum(lengths) / len(lengths) == digits_ctc.MEAN
        assert {digit for said in planned for digit in said.digits} == set(range(10))
        assert {said.accent for said in planned} == set(digits_ctc.ACCENTS)
    assert digits_ctc.plan(5, ("a", "b"), "x") == digits_ctc.plan(5, ("a", "b"), "x")
    assert [said.voice for said in digits_ctc.plan(12, ("a", "b"), "x")] == [*"aaaabbbbaaaa"]


def sound_file(samples, channels=1, rate=16_000):
    kept = io.BytesIO()
    with wave.open(kept, "wb") as opened:
        opened.setnchannels(channels)
        opened.setsampwidth(2)
        opened.setframerate(rate)
        opened.writeframes(samples.numpy().tobytes())
    return kept.getvalue()


def test_sound_files():
    whole = sound_file(tone(500))
    assert torch.equal(digits_ctc.heard(whole), features(tone(500), 16_000, 40))
    # A program that writes to a pipe does not know the length, and claims the largest.
    streamed = whole[:40] + struct.pack("<I", 0x7FFFF000) + whole[44:]
    assert torch.equal(digits_ctc.heard(streamed), digits_ctc.heard(whole))
    with pytest.raises(UsageError, match="no WAV file"):
        digits_ctc.heard(b"nothing")
    with pytest.raises(UsageError, match="of 2 channels"):
        digits_ctc.heard(sound_file(tone(500), channels=2))
    with pytest.raises(UsageError, match="at least a tenth of a second"):
        digits_ctc.heard(sound_file(tone(500)[:1000]))


def test_real_speech(real):
    found = real("digits-ctc")
    again = real("digits-ctc")
    for one, other in zip(found.train, again.train, strict=True):
        assert torch.equal(one, other)
    assert found.train.features.shape[0] == 32
    assert found.validation.lengths.tolist() == [3, 4, 5, 6] * 6
    assert found.train.frames.min() > 60
    planned = digits_ctc.plan(32, digits_ctc.VOICES, "train")
    for said, symbols, length in zip(
        planned, found.train.symbols.tolist(), found.train.lengths.tolist(), strict=True
    ):
        assert tuple(symbol - 1 for symbol in symbols[:length]) == said.digits
        assert not any(symbols[length:])
    # Longer texts take longer to say.
    frames = found.train.frames.float()
    assert frames[found.train.lengths == 6].mean() > 1.5 * frames[found.train.lengths == 3].mean()
    # The first speaker's digits differ from the second's.
    assert not torch.equal(found.train.features[0], found.train.features[16])


def test_a_missing_program_names_its_package(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path))
    digits_ctc._data.cache_clear()
    with pytest.raises(UsageError, match="apt-get install espeak-ng"):
        digits_ctc.build()


def test_what_was_spoken_needs_no_program(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path))
    digits_ctc._data.cache_clear()
    kept = {
        f"{part}.{field}": value
        for part in ("train", "held_out")
        for field, value in batch()._asdict().items()
    }
    prepared("spoken-digits-espeak-1.51", lambda: kept)
    found = digits_ctc.build()
    assert torch.equal(found.validation.symbols, batch().symbols)
    digits_ctc._data.cache_clear()


def program(tmp_path, monkeypatch, script):
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "espeak-ng").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "espeak-ng").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path))
    digits_ctc._data.cache_clear()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 3", "failed: exit code 3"),
        ("echo broken >&2; exit 1", "failed: broken"),
        ("echo hello", "names no version: 'hello'"),
        (
            '[ "$1" = --version ] && echo "eSpeak NG: 9.1  Data"; true',
            "lacks the voices adam, Alex",
        ),
    ],
)
def test_a_program_that_does_not_serve(monkeypatch, tmp_path, script, said):
    program(tmp_path, monkeypatch, script)
    with pytest.raises(UsageError, match=said):
        digits_ctc.build()
