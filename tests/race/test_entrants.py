"""Who takes part, from the texts that name them."""

import pytest

from thalweg.core.errors import UsageError
from thalweg.race.entrants import BASELINE, DEFAULT_ENTRANTS, Entrant, parse_entrants
from thalweg.recipe import Recipe


def test_named_and_unnamed():
    assert parse_entrants(["adamw(lr=1e-3)", "mine = sgd(lr=0.1)", "slow (old)=lion"]) == (
        Entrant("adamw(lr=1e-3)", "adamw(lr=0.001)"),
        Entrant("mine", "sgd(lr=0.1)"),
        Entrant("slow (old)", "lion"),
    )


def test_repetitions_are_numbered_around_names_that_are_taken():
    names = [one.name for one in parse_entrants(["adamw", "adamw", "adamw (2)=sgd", "adamw"])]
    assert names == ["adamw", "adamw (3)", "adamw (2)", "adamw (4)"]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "at least one entrant"),
        (["a=adamw", "a=sgd"], 'two entrants are called "a"'),
        (["=adamw"], "printable name"),
        (["adamq"], 'Did you mean "adam" or "adamw"'),
        (["adamw(lr=1e-3"], "adamw"),
        (["a="], "."),
    ],
)
def test_bad_texts(texts, message):
    with pytest.raises(UsageError, match=message):
        parse_entrants(texts)


def test_the_default_field_has_the_baseline_among_it():
    field = parse_entrants(DEFAULT_ENTRANTS)
    assert len({one.name for one in field}) == len(field) >= 6
    assert str(Recipe.parse(BASELINE)) in {one.recipe for one in field}
