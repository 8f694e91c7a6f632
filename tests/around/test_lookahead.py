import copy

import pytest
import torch
from torch import nn

from thalweg.around import SAM, Lookahead
from thalweg.core.errors import UsageError
from thalweg.optim import AdamW, AdEMAMix

SCRIPT = [
    [1.0, -2.0, 0.5],
    [0.5, 1.0, -3.0],
    [-0.2, -0.5, 1.0],
    [0.1, 2.0, 0.0],
    [-1.0, 0.3, -0.25],
]


def parameter():
    return nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))


def run(optimizer, w, steps):
    seen = []
    for t in steps:
        w.grad = torch.tensor(SCRIPT[t % 5], dtype=torch.float64)
        optimizer.step()
        seen.append(w.detach().clone())
    return seen


def sgd(w, **options):
    return torch.optim.SGD([w], lr=0.02, momentum=0.9, **options)


def test_golden_numbers():
    w = parameter()
    seen = run(Lookahead(sgd(w), k=2, alpha=0.8), w, range(5))
    golden = {
        1: [0.98, -1.96, 0.49],
        2: [0.9616, -1.9552, 0.5328],
        5: [0.928804, -1.972348, 0.598147],
    }
    for t, expected in golden.items():
        # The fifth is printed to six digits.
        assert seen[t - 1].tolist() == pytest.approx(expected, abs=6e-7 if t == 5 else 1e-12)


@pytest.mark.parametrize("pullback", ["none", "pullback"])
def test_alpha_one_is_the_base(pullback):
    w, v = parameter(), parameter()
    ours = run(Lookahead(sgd(w), k=3, alpha=1.0, pullback=pullback), w, range(11))
    theirs = run(sgd(v), v, range(11))
    assert torch.equal(torch.stack(ours), torch.stack(theirs))


@pytest.mark.parametrize("pullback", ["none", "pullback", "reset"])
@pytest.mark.parametrize("k", [1, 3])
def test_equals_the_loop_of_the_paper(pullback, k):
    w = parameter()
    seen = run(Lookahead(sgd(w), k=k, alpha=0.4, pullback=pullback), w, range(12))
    theta = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    slow, m, cached = theta.clone(), torch.zeros(3).double(), torch.zeros(3).double()
    for t, ours in enumerate(seen, start=1):
        g = torch.tensor(SCRIPT[(t - 1) % 5], dtype=torch.float64)
        m = 0.9 * m + g
        theta = theta - 0.02 * m
        if t % k == 0:
            theta = slow = slow + 0.4 * (theta - slow)
            if pullback == "pullback":
                m = cached = 0.4 * m + 0.6 * cached
            if pullback == "reset":
                m = torch.zeros(3).double()
        torch.testing.assert_close(ours, theta, rtol=0, atol=1e-14)


@pytest.mark.parametrize("pullback", ["pullback", "reset"])
@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda w: torch.optim.Adam([w], lr=0.1), ["exp_avg"]),
        (lambda w: AdamW([w], lr=0.1), ["exp_avg"]),
        (lambda w: AdEMAMix([w], lr=0.1), ["exp_avg_fast", "exp_avg_slow"]),
        (lambda w: SAM(torch.optim.NAdam([w], lr=0.1)), ["exp_avg"]),
    ],
)
def test_first_moments_of_any_base_are_pulled_back_and_nothing_else(pullback, make, names):
    def state_after_two(wrap):
        w = parameter()
        optimizer = wrap(make(w))
        for t in range(2):

            def closure(t=t):
                w.grad = torch.tensor(SCRIPT[t], dtype=torch.float64)

            optimizer.step(closure)
        return dict(optimizer.state[w])

    plain = state_after_two(lambda base: base)
    pulled = state_after_two(lambda base: Lookahead(base, k=2, alpha=0.25, pullback=pullback))
    for name, x in plain.items():
        if name in names:
            factor = 0.25 if pullback == "pullback" else 0.0
            torch.testing.assert_close(pulled[name], factor * x, rtol=0, atol=1e-15)
            assert x.abs().sum() > 0
        elif isinstance(x, torch.Tensor):
            assert torch.equal(pulled[name], x)


def test_momentum_that_does_not_exist_is_no_trouble():
    w = parameter()
    run(Lookahead(torch.optim.SGD([w], lr=0.1), k=1, pullback="pullback"), w, range(3))
    assert w.isfinite().all()


def test_weights_loaded_after_construction_are_where_the_slow_ones_start():
    w = parameter()
    optimizer = Lookahead(sgd(w), k=1, alpha=0.5)
    with torch.no_grad():
        w.fill_(100.0)
    (after,) = run(optimizer, w, [0])
    assert after.tolist() == pytest.approx([99.99, 100.02, 99.995])


def test_slow_weights_counter_and_cached_momentum_survive_a_resume():
    def make(w):
        return Lookahead(sgd(w), k=4, alpha=0.3, pullback="pullback")

    w = parameter()
    optimizer = make(w)
    run(optimizer, w, range(6))  # two steps into a round
    saved, point = copy.deepcopy(optimizer.state_dict()), w.detach().clone()
    expected = run(optimizer, w, range(6, 20))
    v = parameter()
    with torch.no_grad():
        v.copy_(point)
    resumed = make(v)
    resumed.load_state_dict(saved)
    assert torch.equal(torch.stack(run(resumed, v, range(6, 20))), torch.stack(expected))
    assert saved["lookahead"]["steps"] == 6


def layers(order):
    generator = torch.Generator().manual_seed(0)
    made = {name: torch.randn(n, generator=generator) for name, n in (("a", 2), ("b", 3))}
    return {name: nn.Parameter(made[name]) for name in order}


def step_layers(optimizer, named):
    for name, p in named.items():
        p.grad = torch.full_like(p, {"a": 1.0, "b": -2.0}[name])
    optimizer.step()


def test_slow_weights_follow_names_when_both_sides_have_them():
    saved_by = layers("ab")
    optimizer = Lookahead(AdamW(saved_by.items(), lr=0.1), k=2)
    for _ in range(3):
        step_layers(optimizer, saved_by)
    turned = layers("ba")
    other = Lookahead(AdamW(turned.items(), lr=0.1), k=2)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    with torch.no_grad():
        for name, p in turned.items():
            p.copy_(saved_by[name])
    for _ in range(3):
        step_layers(optimizer, saved_by)
        step_layers(other, turned)
    assert all(torch.equal(turned[name], p) for name, p in saved_by.items())


def test_a_state_that_does_not_fit_is_refused_and_nothing_changes():
    named = layers("ab")
    optimizer = Lookahead(torch.optim.SGD(list(named.items()), lr=0.1), k=2)
    step_layers(optimizer, named)
    good = copy.deepcopy(optimizer.state_dict())

    renamed = copy.deepcopy(good)
    renamed["lookahead"]["names"] = ["a", "c"]
    with pytest.raises(UsageError, match=r"it has \['c'\] where \['b'\]"):
        optimizer.load_state_dict(renamed)
    wide = copy.deepcopy(good)
    wide["lookahead"]["slow"][1] = torch.zeros(7)
    with pytest.raises(UsageError, match=r'"slow" has shape \(7,\) where the parameter has \(3,\)'):
        optimizer.load_state_dict(wide)
    more = copy.deepcopy(good)
    del more["lookahead"]["names"]
    more["lookahead"]["slow"][2] = torch.zeros(1)
    with pytest.raises(UsageError, match="has a parameter 2, and this one has 2 in all"):
        optimizer.load_state_dict(more)
    now = optimizer.state_dict()["lookahead"]
    assert all(torch.equal(x, good["lookahead"]["slow"][i]) for i, x in now["slow"].items())


def test_evaluation_at_the_slow_weights_is_an_option_and_comes_back_exactly():
    w = parameter()
    optimizer = Lookahead(sgd(w), k=5, slow_evaluation=True)
    run(optimizer, w, range(3))
    training = w.detach().clone()
    optimizer.eval()
    optimizer.eval()
    assert w.tolist() == [1.0, -2.0, 0.5]
    with pytest.raises(UsageError, match=r"call optimizer\.train"):
        optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    optimizer.train()
    assert torch.equal(w, training)

    v = parameter()
    resumed = Lookahead(sgd(v), k=5, slow_evaluation=True)
    resumed.load_state_dict(saved)
    resumed.train()
    assert torch.equal(v, training)

    plain = Lookahead(sgd(v), k=5)
    run(plain, v, range(1))
    before = v.detach().clone()
    plain.eval()
    assert torch.equal(v, before)


def test_a_checkpoint_loader_s_empty_step_does_not_count():
    w = parameter()
    optimizer = Lookahead(torch.optim.Adam([w], lr=0.1), k=1)
    w.grad = torch.zeros_like(w)
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step(closure=None)
    assert optimizer.state_dict()["lookahead"]["steps"] == 0
    assert optimizer.state
    w.grad.fill_(1.0)
    optimizer.step()
    assert optimizer.state_dict()["lookahead"]["steps"] == 1


@pytest.mark.parametrize(
    "hyper",
    [{"k": 0}, {"k": 2.0}, {"alpha": 0.0}, {"alpha": 1.5}, {"pullback": "rest"}],
)
def test_impossible_values_are_refused(hyper):
    with pytest.raises(UsageError, match=f"lookahead: {next(iter(hyper))} must be"):
        Lookahead(sgd(parameter()), **hyper)


def test_a_misspelt_mode_is_met_with_the_nearest():
    with pytest.raises(UsageError, match='Did you mean "reset"'):
        Lookahead(sgd(parameter()), pullback="rest")
