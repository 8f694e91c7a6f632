"""BLEU, counted by hand."""

import math

import pytest
import torch

from thalweg.workload.bleu import bleu, counts, words


def counted(translation, reference):
    return counts(translation.split(), reference.split())


def test_words_and_signs():
    assert words("He said: &quot;3.5% (1,000) - no.&quot;") == [
        "He", "said", ":", '"', "3.5", "%", "(", "1,000", ")", "-", "no", ".", '"',
    ]  # fmt: skip
    assert words("a well-known 12-year-old's") == ["a", "well-known", "12", "-", "year-old's"]


def test_counts_are_clipped():
    found = counted("the the the the the the the", "the cat is on the mat")
    assert found == [2, 0, 0, 0, 7, 6, 5, 4, 6]


def test_bleu_by_hand():
    # One word of six is wrong; the second sentence is right but shorter than its reference.
    rows = [
        counted("the cat sat on the mat", "the cat lay on the mat"),
        counted("a b c d e", "a b c d e f"),
    ]
    precisions = [(5 + 5) / 11, (3 + 4) / 9, (1 + 3) / 7, (0 + 2) / 5]
    mean = math.exp(sum(map(math.log, precisions)) / 4)
    assert float(bleu(torch.tensor(rows))) == pytest.approx(100 * mean * math.exp(1 - 12 / 11))


def test_the_ends_of_the_scale():
    same = counted("a b c d e", "a b c d e")
    assert float(bleu(torch.tensor([same]))) == pytest.approx(100)
    longer = counted("a b c d e f", "a b c d e")
    assert float(bleu(torch.tensor([longer]))) == pytest.approx(
        100 * (5 / 6 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25
    )
    assert float(bleu(torch.tensor([counted("x", "a b c d e")]))) == 0


def test_against_sacrebleu():
    sacrebleu = pytest.importorskip("sacrebleu")
    translations = [
        "It's 12-year-old wine, isn't it?", "The U.S. economy grew 3.2% (q/q).", "No.",
        "He paid $1,000.50 for a \u201ctable\u201d; then left - quickly.", "",
    ]  # fmt: skip
    references = [
        "It is a 12-year-old wine, isn't it?", "The US economy grew by 3.2% (q/q).", "No!",
        "He paid $1,000.50 for a \u201cdesk\u201d; then left -- quickly.", "Something else.",
    ]  # fmt: skip
    rows = [
        counts(words(one), words(other))
        for one, other in zip(translations, references, strict=True)
    ]
    wanted = sacrebleu.corpus_bleu(translations, [references], smooth_method="none").score
    assert float(bleu(torch.tensor(rows))) == pytest.approx(wanted, rel=1e-9)
