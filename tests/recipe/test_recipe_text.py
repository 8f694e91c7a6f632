import contextlib
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thalweg.core import registry
from thalweg.core.errors import UsageError
from thalweg.core.registry import Part
from thalweg.core.space import Log
from thalweg.recipe import Recipe, Use, parse


class Anything(torch.optim.SGD):
    """A rule that takes any value."""

    def __init__(self, params, lr=0.1, *, one=None, other_setting=(), third="x"):
        super().__init__(params.parameters(), lr=lr)


@pytest.fixture(autouse=True, scope="module")
def anything():
    """Register rules for these tests alone."""
    before = dict(registry._parts)
    registry.register(Part("test-any-1", "rule", "Any", "", Anything, {"lr": Log(0.1, 1.0)}))
    yield
    registry._parts.clear()
    registry._parts.update(before)


numbers = st.one_of(st.integers(-(10**30), 10**30), st.floats(allow_nan=False))
text = st.text(st.characters(exclude_categories=("Cs",)))
plain = st.one_of(st.none(), st.booleans(), numbers, text)
values = st.recursive(plain, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=5)
unit = st.floats(0, 1)


def some(slug, **settings):
    return st.fixed_dictionaries({}, optional=settings).map(lambda hyper: Use(slug, **hyper))


rules = st.one_of(
    some("test-any-1", lr=values, one=values, other_setting=values, third=values),
    some("adamw", lr=st.floats(1e-12, 1e3), betas=st.just((0.9, 0.5)), execution=st.just("loop")),
    some("schedule-free-adamw", lr=st.floats(0, 1)),
)
sams = some("sam", rho=st.floats(0, 1e6), p=st.floats(1))
lookaheads = some("lookahead", k=st.integers(1, 99), alpha=unit.map(lambda x: (x + 1) / 2))
recipes = st.builds(
    Recipe,
    rules,
    st.one_of(
        st.just(()), st.tuples(sams), st.tuples(lookaheads, sams), st.tuples(sams, lookaheads)
    ),
    st.none() | some("warmup", fraction=st.floats(0, 0.9), initial=unit),
    st.none()
    | some("constant")
    | some("linear", final=unit)
    | some("cooldown", fraction=unit, shape=st.sampled_from(["1-sqrt", "linear"])),
    st.none() | some("ema", decay=st.floats(0, 0.99), warmup=st.booleans()) | some("swa"),
)


@given(recipes)
def test_the_text_reads_back_as_the_same_recipe(recipe):
    again = parse(str(recipe))
    assert str(again) == str(recipe)
    assert again == recipe
    assert hash(again) == hash(recipe)
    assert again.hyper() == recipe.hyper()
    assert list(map(type, again.hyper().values())) == list(map(type, recipe.hyper().values()))
    assert [use.slug for use in again.uses] == [use.slug for use in recipe.uses]


@given(recipes, st.data())
def test_order_and_white_space_do_not_matter_except_among_wrappers(recipe, data):
    inner = iter(recipe.around)
    kinds = [None if use in recipe.around else use for use in recipe.uses]
    shuffled = data.draw(st.permutations(kinds))
    space = st.text(st.sampled_from(" \t\n\r\u00a0"), max_size=2)
    texts = [str(next(inner) if use is None else use) for use in shuffled]
    joined = "+".join(data.draw(space) + one + data.draw(space) for one in texts)
    assert parse(joined) == recipe


@given(st.text(max_size=40) | st.text(st.sampled_from("adamw()+-=.,'\"#1e \n_sgd"), max_size=30))
def test_any_text_is_a_recipe_or_one_clear_error(text):
    with contextlib.suppress(UsageError):  # and nothing else
        recipe = parse(text)
        assert parse(str(recipe)) == recipe


def test_the_example_of_the_contract():
    text = "adamw(lr=1e-3, weight_decay=0.1) + warmup(0.05) + linear + ema(0.999)"
    recipe = Recipe.parse(text)
    assert str(recipe) == (
        "adamw(lr=0.001, weight_decay=0.1) + warmup(fraction=0.05) + linear + ema(decay=0.999)"
    )
    assert repr(recipe) == f"Recipe.parse({str(recipe)!r})"
    assert parse(recipe) is recipe


def test_slugs_with_dashes_beside_numbers_and_strings_with_dashes():
    recipe = parse('schedule-free-adamw(lr=1e-3,weight_decay=1e-1)+cooldown(shape="1-sqrt")')
    assert recipe.rule.slug == "schedule-free-adamw"
    assert recipe.rule.hyper == {"lr": 1e-3, "weight_decay": 1e-1}
    assert recipe.schedule == Use("cooldown", shape="1-sqrt")
    assert parse("test-any-1(one='a-b-c', third=-0.8)").rule.hyper == {
        "one": "a-b-c",
        "third": -0.8,
    }


def test_values():
    rule = parse(
        "test-any-1(1e-3, one=(1, -2.5, (True, None), 'a\"b'), other_setting=-inf, third=[1])"
    ).rule
    assert rule.hyper == {
        "lr": 1e-3,
        "one": (1, -2.5, (True, None), 'a"b'),
        "other_setting": -math.inf,
        "third": (1,),
    }
    assert str(rule) == (
        'test-any-1(lr=0.001, one=(1, -2.5, (True, None), "a\\"b"), other_setting=-inf, third=(1,))'
    )


def test_settings_by_position_follow_the_part_s_parameters():
    recipe = parse("sgd(0.1, 0.9) + sam(0.05, inf) + lookahead(10) + swa(0.5, 2)")
    assert recipe.hyper() == {
        "sgd.lr": 0.1,
        "sgd.momentum": 0.9,
        "sam.rho": 0.05,
        "sam.p": math.inf,
        "lookahead.k": 10,
        "swa.start": 0.5,
        "swa.every": 2,
    }


def test_wrappers_keep_their_order():
    assert [use.slug for use in parse("sam + adamw + lookahead").around] == ["sam", "lookahead"]
    assert parse("adamw + sam + lookahead") != parse("adamw + lookahead + sam")


def test_a_setting_equal_to_the_default_is_kept():
    assert str(parse("sam(rho=0.05) + adamw(eps=1e-8)")) == "adamw(eps=1e-08) + sam(rho=0.05)"
    assert parse("adamw + sam") != parse("adamw + sam(0.05)")


def test_whole_numbers_and_decimal_ones_are_told_apart():
    assert str(parse("sgd(lr=1)")) == "sgd(lr=1)"
    assert parse("sgd(lr=1)") != parse("sgd(lr=1.0)")
    assert len({parse("sgd(lr=1)"), parse("sgd(lr=1)"), parse("sgd(1)")}) == 1


@pytest.mark.parametrize(
    ("text", "message", "blamed"),
    [
        ("adamv(lr=1) + linear", 'unknown part "adamv". Did you mean "adam" or "adamw"', "adamv"),
        ("sgd + liner", 'unknown part "liner". Did you mean "linear"', "liner"),
        ("schedule_free_adamw", 'Did you mean "schedule-free-adamw"', "schedule_free_adamw"),
        ("adamw-linear", 'unknown part "adamw-linear". Did you mean', "adamw-linear"),
        ("sgd + ema(decoy=0.9)", 'ema has no "decoy". Did you mean "decay"', "decoy"),
        ("sgd + constant(1)", "constant takes 0 settings", "1"),
        ("sgd + constant(a=1)", "It takes no settings", "a"),
        ("sgd + cosine(0.5, 2)", "cosine takes 1 settings: final", "2"),
        ("sgd + swa(0.5, start=0.5)", "swa got start twice", "start"),
        ("sgd + sam(model=1)", 'sam has no "model"', "model"),
        ("sgd + sam(p=0.5)", "sam: p must be a number in [1, inf], found 0.5", "0.5"),
        ("sgd + lookahead(alpha='x')", "lookahead: alpha must be a number", "'x'"),
        ("sgd + ema(1.5)", "ema: decay must be a number in [0, 1), found 1.5", "1.5"),
        ("sgd + warmup(1)", "warmup: fraction must be a number in [0, 1), found 1", "1"),
        ("adamw(lr=-1)", "lr must be at least 0, found -1.0", "-1"),
        ("adamw(lr='fast')", "lr must be a number, found 'fast'", "'fast'"),
        ("linear + cosine", 'one schedule at most, and "linear" is one', "cosine"),
        ("sgd + adamw(lr=1)", 'one rule at most, and "sgd" is one', "adamw(lr=1)"),
        ("warmup + sgd + warmup", "one warm-up at most", "warmup"),
        ("sgd + ema + swa", "one average at most", "swa"),
        ("sgd + sam + sam", 'the wrapper "sam" is there twice', "sam"),
        ("  linear + ema", "a recipe needs one rule", "linear + ema"),
        ("sgd - linear", 'parts are joined by "+"', "linear"),
        ("sgd linear", 'a recipe is parts joined by "+"', "l"),
        ("torch.optim.SGD(lr=1)", "expected a part", "torch.optim.SGD(lr=1)"),
        ("sgd(lr=0.1)(2)", "expected a part", "sgd(lr=0.1)(2)"),
        ("0.1", "expected a part", "0.1"),
        ("sgd + cooldown(shape=1-sqrt)", "a string needs quotes", "1-sqrt"),
        ("sgd + cooldown(shape='sqrt')", 'Did you mean "1-sqrt"', "'sqrt'"),
        ("sgd(nesterov=true)", "write True", "true"),
        ("sgd(lr=2*3)", "nothing is computed", "2*3"),
        ("sgd(lr=__import__('os'))", "expected a number", "__import__('os')"),
        ("sgd(lr=1j)", "expected a number", "1j"),
        ("sgd(lr=-True)", "expected a number", "-True"),
        ("sgd(lr=b'1')", "expected a number", "b'1'"),
        ("sgd(*a)", "not unpacked", "*a"),
        ("sgd(**a)", "not unpacked", "a"),
        ("sgd # fast", "no comments", "#"),
        ("sgd(lr=0.1", "'(' was never closed", "("),
        ("sgd(lr=0.1))", "unmatched ')'", ")"),
        ("sgd(execution='é', lrr=3)", 'sgd has no "lrr"', "lrr"),
        ("sgd(execution='a\u00a0b', lrr=3)", 'sgd has no "lrr"', "lrr"),
        ("sgd(execution='a\nb')", "a string stays on one line", "'a b'"),
    ],
)
def test_errors_point_at_the_place(text, message, blamed):
    with pytest.raises(UsageError) as caught:
        parse(text)
    said, shown, pointer = str(caught.value).rsplit("\n", 2)
    assert message in said
    assert shown == "  " + text.replace("\n", " ").replace("\u00a0", " ")
    start = pointer.index("^")
    assert shown[start : len(pointer)] == blamed
    assert set(pointer[start + 1 :]) <= {"~"}


@pytest.mark.parametrize("text", ["sgd +", "sgd + ema(", "sgd(lr="])
def test_what_ends_too_early_is_pointed_at_or_after_its_end(text):
    with pytest.raises(UsageError, match="cannot be read here"):
        parse(text)


@pytest.mark.parametrize("text", ["", "  \n", None, 3, b"sgd"])
def test_what_is_no_text_at_all(text):
    with pytest.raises(UsageError, match=r'recipe is.*"adamw'):
        parse(text)


@pytest.mark.parametrize("text", ["sgd" + "+sgd" * 20000, "sgd(lr=" + "(" * 900, "sgd(\0)"])
def test_hostile_texts_are_errors_like_others(text):
    with pytest.raises(UsageError, match="cannot be read"):
        parse(text)
