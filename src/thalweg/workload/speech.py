"""From sound to text: features, a network for connectionist temporal classification, errors."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from thalweg.workload.edit_distance import edit_distance

BLANK = 0

# What one step of a feature is, in natural logarithms of power: 256 steps span 32.
RESOLUTION = 0.125


class Utterances(NamedTuple):
    """A batch of spoken texts.

    Attributes:
        features: logarithms of mel powers, (n, frames, mels), uint8, in steps of `RESOLUTION`; 0
            beyond an utterance's end.
        frames: of each utterance, (n,).
        symbols: of each text, from 1, (n, symbols), uint8; 0 beyond its end.
        lengths: of the texts, (n,).
    """

    features: Tensor
    frames: Tensor
    symbols: Tensor
    lengths: Tensor


class SpeechNet(nn.Module):
    """Features (n, frames, mels) and frames (n,) to log-probabilities (n, steps, classes), steps.

    Two convolutions over five frames with stride 2 and ReLU, layers of gated recurrent units in
    both directions, and a linear layer, in the manner of Amodei et al., "Deep Speech 2", 2015.
    What lies beyond an utterance's end has no influence on it.

    Args:
        mels: features of a frame.
        width: channels of the convolutions and units in each direction.
        layers: recurrent ones.
        classes: symbols and the blank, which is class 0.
    """

    def __init__(self, mels: int, width: int, layers: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(mels, width, 5, stride=2, padding=2)
        self.second = nn.Conv1d(width, width, 5, stride=2, padding=2)
        self.recurrent = nn.GRU(
            width, width, num_layers=layers, batch_first=True, bidirectional=True
        )
        self.head = nn.Linear(2 * width, classes)

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities, and how many of their steps belong to each utterance."""
        hidden = features.transpose(1, 2)
        for convolution in (self.first, self.second):
            frames = (frames + 1) // 2
            hidden = F.relu(convolution(hidden))
            inside = torch.arange(hidden.shape[2], device=hidden.device) < frames[:, None]
            hidden = hidden * inside[:, None, :]
        packed = nn.utils.rnn.pack_padded_sequence(
            hidden.transpose(1, 2), frames.cpu(), batch_first=True, enforce_sorted=False
        )
        read, _ = nn.utils.rnn.pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)
        return self.head(read).log_softmax(2), frames


def ctc_loss(model: nn.Module, batch: Utterances) -> Tensor:
    """Return the mean over utterances of the CTC loss for each symbol, in nats.

    Graves et al., "Connectionist Temporal Classification", 2006.
    """
    logarithms, steps = _outputs(model, batch)
    return F.ctc_loss(
        logarithms.float().transpose(0, 1), batch[2].long(), steps, batch[3], blank=BLANK
    )


def symbol_errors(model: nn.Module, batch: Utterances) -> Tensor:
    """Return the least edits from the decoded text of each utterance to the true one, (n,)."""
    return torch.tensor(
        [edit_distance(found, true) for found, true in decoded(model, batch)], dtype=torch.float64
    )


def decoded(model: nn.Module, batch: Utterances) -> list[tuple[list[int], list[int]]]:
    """Return for each utterance the text that greedy decoding finds and the true one."""
    pairs = zip(batch[2].tolist(), batch[3].tolist(), strict=True)
    texts = [text[:length] for text, length in pairs]
    return list(zip(greedy(*_outputs(model, batch)), texts, strict=True))


def greedy(logarithms: Tensor, steps: Tensor) -> list[list[int]]:
    """Return the texts of the likeliest class at each step, repeats and then blanks left out."""
    texts = []
    for best, count in zip(logarithms.argmax(2), steps.tolist(), strict=True):
        path = torch.unique_consecutive(best[:count]).tolist()
        texts.append([symbol for symbol in path if symbol != BLANK])
    return texts


def together(spoken: Sequence[Tensor], symbols: Sequence[Tensor]) -> Utterances:
    """Return the batch of features (frames, mels) and symbols (symbols,) of utterances."""
    return Utterances(
        features=nn.utils.rnn.pad_sequence(list(spoken), batch_first=True),
        frames=torch.tensor([len(each) for each in spoken]),
        symbols=nn.utils.rnn.pad_sequence(list(symbols), batch_first=True),
        lengths=torch.tensor([len(each) for each in symbols]),
    )


def features(sound: Tensor, rate: int, mels: int) -> Tensor:
    """Return logarithms of mel powers in steps of `RESOLUTION`, (frames, mels), uint8.

    Windows (Hann) of 25 ms every 10 ms; triangles that are evenly spaced between 60 Hz and
    min(7,600 Hz, half the rate) on the scale mel = 2595 log10(1 + f / 700 Hz). The loudest value of
    an utterance becomes 255 and what lies 32 nats or more below it 0.

    Args:
        sound: the samples, (n,), at least one window of them.
        rate: samples a second.
        mels: number of triangles.
    """
    window, hop = rate // 40, rate // 100
    size = 2 ** (window - 1).bit_length()
    spectrum = torch.stft(
        sound.double(),
        size,
        hop_length=hop,
        win_length=window,
        window=torch.hann_window(window, dtype=torch.float64),
        center=False,
        return_complex=True,
    )
    power = (_triangles(rate, size, mels) @ spectrum.abs().square()).T
    logarithms = power.clamp_min(1e-30).log()
    steps = 255 + (logarithms - logarithms.max()) / RESOLUTION
    return steps.round().clamp(0, 255).to(torch.uint8)


def _triangles(rate: int, size: int, mels: int) -> Tensor:
    edges = torch.tensor([60.0, min(7600.0, rate / 2)], dtype=torch.float64)
    low, high = (2595 * (1 + edges / 700).log10()).tolist()
    mel = torch.linspace(low, high, mels + 2, dtype=torch.float64)
    corners = (700 * (10 ** (mel / 2595) - 1))[:, None]
    frequencies = torch.arange(size // 2 + 1, dtype=torch.float64) * rate / size
    rising = (frequencies - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - frequencies) / (corners[2:] - corners[1:-1])
    return torch.minimum(rising, falling).clamp_min(0)


def _outputs(model: nn.Module, batch: Utterances) -> tuple[Tensor, Tensor]:
    # Steps to numbers of about unit size; a batch is only as long as its longest utterance.
    longest = int(batch[1].max())
    scaled = (batch[0][:, :longest].float() - 160) / 40
    return model(scaled, batch[1])
