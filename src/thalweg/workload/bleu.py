"""BLEU: how much a translation has in common with a reference."""

import re
from collections import Counter
from collections.abc import Sequence

from torch import Tensor

ORDERS = 4
_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
_SYMBOLS = re.compile(r"([{-~\[-` -&(-+:-@/])")
_AFTER = re.compile(r"([^0-9])([.,])")
_BEFORE = re.compile(r"([.,])([^0-9])")
_DASH = re.compile(r"([0-9])(-)")


def words(sentence: str) -> list[str]:
    """Return a sentence's words and signs, as the evaluation script mteval-v13a cuts them.

    ASCII signs stand alone; full stops and commas too, unless they are between digits; a dash
    after a digit too. Case is kept.
    """
    for entity, sign in _ENTITIES:
        sentence = sentence.replace(entity, sign)
    sentence = f" {sentence} "
    sentence = _SYMBOLS.sub(r" \1 ", sentence)
    sentence = _AFTER.sub(r"\1 \2 ", sentence)
    sentence = _BEFORE.sub(r" \1 \2", sentence)
    return _DASH.sub(r"\1 \2 ", sentence).split()


def counts(translation: Sequence[str], reference: Sequence[str]) -> list[int]:
    """Return what BLEU needs of one sentence.

    Returns:
        For n from 1 to 4, the n-grams of the translation that the reference has too, each counted
        at most as often as there; then for n from 1 to 4 the n-grams of the translation; then the
        reference's length.
    """
    matches, totals = [], []
    for order in range(1, ORDERS + 1):
        found, wanted = (
            Counter(tuple(side[i : i + order]) for i in range(len(side) - order + 1))
            for side in (translation, reference)
        )
        matches.append(sum((found & wanted).values()))
        totals.append(sum(found.values()))
    return [*matches, *totals, len(reference)]


def bleu(rows: Tensor) -> Tensor:
    """Return BLEU in percent, 0-d, from the `counts` of all sentences (n, 9).

    Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation", 2002: the
    geometric mean of the precisions for n from 1 to 4, times ``exp(1 - r / c)`` if the
    translations' length c is less than the references' r. A precision of 0 makes it 0.
    """
    total = rows.double().sum(0)
    matches, totals, reference = total[:ORDERS], total[ORDERS : 2 * ORDERS], total[-1]
    if not bool((matches > 0).all()):
        return total.new_zeros(())
    brevity = (1 - reference / totals[0]).clamp(max=0.0)
    return 100 * ((matches / totals).log().mean() + brevity).exp()
