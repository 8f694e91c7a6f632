"""Words and their phonemes."""

import pytest
import torch
from real_data import load_or_skip

from thalweg.workload import phonemes_transformer as module
from thalweg.workload.encoder_decoder import END, SPECIAL, START, content
from thalweg.workload.tally import Tally


def spell(row):
    return "".join(module.LETTERS[token - SPECIAL] for token in row.tolist() if token)


def test_entries_are_words_of_letters_without_stress(tmp_path):
    file = tmp_path / "dict.txt"
    file.write_text(
        "A(1)  EY1\nA'S  EY1 Z\nHELLO  HH AH0 L OW1\nABCDEFGHIJKLMNOPQ  EY1\nX  "
        + "AA1 " * 17
        + "\nZOO  Z UW1\n"
    )
    assert module._entries(file) == [("HELLO", ["HH", "AH", "L", "OW"]), ("ZOO", ["Z", "UW"])]


def test_words_and_split():
    found = load_or_skip("phonemes-transformer")
    (words, spoken), (other_words, other_spoken) = found.train, found.validation
    assert words.shape == (115_403, module.LONGEST)
    assert other_words.shape == (1000, module.LONGEST)
    assert spoken.shape == (115_403, module.LONGEST + 2)
    assert bool((spoken[:, 0] == START).all())
    assert bool(((spoken == END).sum(1) == 1).all())
    seen = {spell(row) for row in words}
    held_out = {spell(row) for row in other_words}
    assert len(held_out) == 1000
    assert not seen & held_out
    everything = dict(zip(map(spell, words), spoken.tolist(), strict=True))
    everything |= dict(zip(map(spell, other_words), other_spoken.tolist(), strict=True))
    hello = [module.PHONEMES[token - SPECIAL] for token in content(everything["HELLO"])]
    assert hello == ["HH", "AH", "L", "OW"]


def test_the_metric_is_edits_over_phonemes(monkeypatch):
    words = torch.zeros(3, 4, dtype=torch.uint8)
    spoken = torch.tensor([[1, 5, 6, 7, 2, 0], [1, 5, 2, 0, 0, 0], [1, 8, 9, 10, 11, 2]])
    # One substitution, two insertions, all four deleted: 7 edits over 8 phonemes.
    monkeypatch.setattr(module, "greedy", lambda *given: [[5, 9, 7], [5, 5, 5], []])
    rows = module._metric(torch.nn.Identity(), (words, spoken))
    assert rows.tolist() == [[1, 3], [2, 1], [4, 4]]
    assert float(module._error_rate(rows)) == pytest.approx(7 / 8)


def test_a_model_that_says_nothing_makes_every_error():
    found = load_or_skip("phonemes-transformer")
    model = found.model().eval()
    with torch.no_grad():
        model.decoder_norm.weight.zero_()
        model.decoder_norm.bias.fill_(1.0)
        model.head.weight.zero_()
        model.head.weight[END] = 1.0
        tally = Tally(found)
        tally.add(found.metric(model, tuple(side[:50] for side in found.validation)), 50)
    assert tally.result() == 1.0
