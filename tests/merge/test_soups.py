"""Soups and what chooses their members, by hand; ensembles as their ceiling."""

import math

import pytest
import torch
from one_vector import F64, tensor, values
from torch import nn

from thalweg.core.errors import UsageError
from thalweg.landscape import Objective
from thalweg.merge import (
    BranchTrainMerge,
    Ensemble,
    LearnedSoup,
    UniformSoup,
    cached_prior,
    domain_posterior,
    merge,
    mixture,
)


def test_uniform_soup_by_hand():
    models = [tensor(1, 2), tensor(3, 4), tensor(8, 0)]
    assert values(merge("model-soups", models)) == pytest.approx([4, 2])
    assert values(merge(UniformSoup((1, 1, 2)), models)) == pytest.approx([5, 1.5])
    assert values(merge("model-soups(weights=(0, 1, 0))", models)) == [3, 4]
    assert values(merge("model-soups", models[:1])) == [1, 2]
    for same in ("diwa", "warm", "btm(weights=(1, 1, 1))"):
        assert values(merge(same, models)) == values(merge("model-soups", models))


def test_modules_are_merged_and_ties_stay_ties():
    class Tied(nn.Module):
        def __init__(self, value):
            super().__init__()
            self.a = nn.Linear(2, 2, bias=False)
            self.b = nn.Linear(2, 2, bias=False)
            nn.init.constant_(self.a.weight, value)
            self.b.weight = self.a.weight

    found = merge("model-soups", {"x": Tied(1.0), "y": Tied(3.0)})
    assert found["a.weight"] is found["b.weight"]
    assert found["a.weight"].unique().tolist() == [2.0]
    untied = {n: x.clone() for n, x in Tied(3.0).state_dict().items()}
    found = merge("model-soups", [Tied(1.0), untied])
    assert found["a.weight"] is not found["b.weight"]


def test_keys_that_not_all_have():
    a = {"x": torch.ones(2), "a": torch.ones(1)}
    b = {"x": torch.zeros(2), "b": torch.ones(1)}
    with pytest.raises(UsageError, match='"a" is missing in model 2') as error:
        merge("model-soups", [a, b])
    assert '"b" is missing in model 1' in str(error.value)
    assert merge("model-soups", [a, b], keys="common").keys() == {"x"}
    everything = merge("model-soups", [a, b], keys="all")
    assert {n: v.tolist() for n, v in everything.items()} == {
        "x": [0.5, 0.5],
        "a": [1.0],
        "b": [1.0],
    }
    with pytest.raises(UsageError, match="no tensor in common"):
        merge("model-soups", [{"x": a["x"]}, {"b": b["b"]}], keys="common")


def test_only_ten_mismatches_are_named():
    a = {f"t{i:02d}": torch.zeros(2) for i in range(14)}
    b = {f"t{i:02d}": torch.zeros(3) for i in range(14)}
    with pytest.raises(UsageError) as error:
        merge("model-soups", [a, b])
    text = str(error.value)
    assert sum(f'"t{i:02d}"' in text for i in range(14)) == 10
    assert "and 4 more" in text


def test_whole_numbers_must_agree_or_count():
    a, b = {"w": torch.ones(1), "n": torch.tensor(4)}, {"w": torch.ones(1), "n": torch.tensor(7)}
    assert merge("model-soups", [a, b])["n"] == 7
    a["n"], b["n"] = torch.tensor([1, 2]), torch.tensor([1, 3])
    with pytest.raises(UsageError, match="whole numbers cannot be merged"):
        merge("model-soups", [a, b])


def test_mixed_dtypes_become_what_holds_both():
    a = {"w": torch.ones(2, dtype=torch.float16)}
    b = {"w": torch.zeros(2, dtype=torch.bfloat16)}
    assert merge("model-soups", [a, b])["w"].dtype == torch.float32
    assert merge("model-soups", [a, b], dtype=torch.bfloat16)["w"].dtype == torch.bfloat16
    large = {"w": torch.full((2,), 1e5)}
    with pytest.raises(UsageError, match=r"entries up to 1e\+05, which float16 does not hold"):
        merge("model-soups", [large, large], dtype=torch.float16)
    with pytest.raises(UsageError, match="must be a float"):
        merge("model-soups", [a, b], dtype=torch.int64)
    with pytest.raises(UsageError, match="complex"):
        merge("model-soups", [{"w": torch.zeros(2, dtype=torch.complex64)}] * 2)


def greedy_score(weights):
    """Best at (2, 2)."""
    return -(weights["w"] - 2).square().sum().item()


def test_greedy_soup_by_hand():
    best, helps, harms = tensor(3, 2), tensor(1, 2), tensor(9, 9)
    found = merge("greedy-soup", [harms, helps, best], score=greedy_score)
    assert values(found) == [2, 2]
    assert values(merge("greedy-soup", [harms], score=greedy_score)) == [9, 9]
    with pytest.raises(UsageError, match="not a number"):
        merge("greedy-soup", [best], score=lambda w: math.nan)


def test_an_equal_score_is_accepted_as_in_the_paper():
    models = [tensor(1.0), tensor(3.0)]
    for method in ("greedy-soup", "diwa(selection='restricted')"):
        assert values(merge(method, models, score=lambda w: 1.0)) == [2.0]


@pytest.mark.parametrize("seed", range(8))
def test_greedy_soup_is_never_below_its_best_member(seed):
    random = torch.Generator().manual_seed(seed)
    models = [{"w": torch.randn(5, generator=random, dtype=F64)} for _ in range(6)]
    target = torch.randn(5, generator=random, dtype=F64)

    def score(w):
        return -(w["w"] - target).abs().sum().item()

    for method in ("greedy-soup", "diwa(selection='restricted')"):
        assert score(merge(method, models, score=score)) >= max(map(score, models)) - 1e-12


def test_batch_norm_statistics_of_a_soup_are_those_of_its_members():
    def model(value):
        x = torch.tensor([value], dtype=F64)
        return {"w": x, "norm.running_mean": x.clone()}

    found = merge("greedy-soup", [model(1.0), model(3.0), model(50.0)], score=greedy_score)
    assert found["w"].item() == found["norm.running_mean"].item() == 2.0


def regression(members, target):
    """Return an objective of a linear model, whose best mix of the members is known."""
    model = nn.Linear(2, 1, bias=False)
    x = torch.eye(2)
    return Objective(model, lambda m, b: (m(b[0]) - b[1]).square().mean(), [(x, x @ target)])


def test_learned_soup_finds_the_mixing_coefficients():
    members = [{"weight": torch.tensor([[1.0, 0.0]])}, {"weight": torch.tensor([[0.0, 1.0]])}]
    objective = regression(members, torch.tensor([[0.8], [0.2]]))
    method = LearnedSoup(epochs=300, temperature=False)
    found = merge(method, members, objective=objective)
    assert found["weight"].tolist()[0] == pytest.approx([0.8, 0.2], abs=1e-3)
    untouched = merge(LearnedSoup(epochs=0), members, objective=objective)
    assert untouched["weight"].tolist() == [[0.5, 0.5]]


def test_learned_soup_by_tensor_and_with_a_temperature():
    torch.manual_seed(0)
    data = torch.randn(60, 3)
    truth = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    labels = truth(data).argmax(1)
    good = truth.state_dict()
    bad = {n: torch.randn_like(x) for n, x in good.items()}
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))

    def loss(m, batch):
        return nn.functional.cross_entropy(m(batch[0]), batch[1])

    objective = Objective(model, loss, [(data, labels)])
    before = {n: x.clone() for n, x in model.state_dict().items()}
    for by_tensor in (False, True):
        method = LearnedSoup(epochs=150, by_tensor=by_tensor)
        found = merge(method, [good, bad], objective=objective)
        model.load_state_dict(found)
        right = (model(data).argmax(1) == labels).double().mean()
        model.load_state_dict(merge("model-soups", [good, bad]))
        assert right > 0.95 > (model(data).argmax(1) == labels).double().mean()
        model.load_state_dict(before)
    assert all(torch.equal(before[n], x) for n, x in model.state_dict().items())
    assert not model._forward_hooks


def test_domain_posterior_is_bayes_rule():
    likelihoods = torch.tensor([0.2, 0.1], dtype=F64)
    assert domain_posterior(likelihoods.log()).tolist() == pytest.approx([2 / 3, 1 / 3])
    prior = torch.tensor([1.0, 3.0], dtype=F64)
    assert domain_posterior(likelihoods.log(), prior).tolist() == pytest.approx([0.4, 0.6])
    # Equal experts: the posterior is the prior; one expert: certain.
    assert domain_posterior(torch.zeros(2, dtype=F64), prior).tolist() == pytest.approx(
        [0.25, 0.75]
    )
    assert domain_posterior(torch.tensor([-3000.0])).tolist() == [1.0]
    with pytest.raises(UsageError, match="a prior"):
        domain_posterior(torch.zeros(2), torch.tensor([1.0, -1.0]))


def test_the_cached_prior_is_the_moving_average_of_posteriors():
    rows = torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]], dtype=F64)
    first = [0.5, 0.5]
    second = [0.7 * first[0] + 0.3 * 0.9, 0.7 * first[1] + 0.3 * 0.1]
    third = [0.7 * second[0] + 0.3 * 0.2, 0.7 * second[1] + 0.3 * 0.8]
    assert cached_prior(rows.log()).tolist() == pytest.approx(third)
    assert cached_prior(rows.log(), 1.0).tolist() == pytest.approx([0.2, 0.8])


def test_a_mixture_follows_the_domain_of_the_tokens_before():
    random = torch.Generator().manual_seed(0)
    experts = torch.softmax(torch.randn(2, 4, 3, generator=random, dtype=F64), -1)
    tokens = torch.tensor([0, 2, 1, 1])
    found = mixture(experts.log(), tokens).exp()
    weights = [0.5, 0.5]
    for t in range(4):
        share = [w / sum(weights) for w in weights]
        expected = share[0] * experts[0, t] + share[1] * experts[1, t]
        torch.testing.assert_close(found[t], expected)
        weights = [w * experts[j, t, tokens[t]].item() for j, w in enumerate(weights)]
    torch.testing.assert_close(found.sum(-1), torch.ones(4, dtype=F64))
    torch.testing.assert_close(mixture(experts[:1].log(), tokens), experts[0].log())


def test_experts_are_merged_by_their_posterior_on_held_out_batches():
    one, other = tensor(0.0), tensor(4.0)

    class Scalar(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(1, dtype=F64))

    def loss(model, batch):  # negative log-likelihood of a Gaussian of unit variance
        return (batch - model.w).square().mean() / 2

    batches = [torch.full((3,), x, dtype=F64) for x in (1.0, 2.5)]
    objective = Objective(Scalar(), loss, batches)
    found = merge(BranchTrainMerge(tokens=2), [one, other], objective=objective)
    log = torch.tensor([[-((b.mean() - w) ** 2) / 2 for w in (0.0, 4.0)] for b in batches]) * 2
    weights = cached_prior(log.double())
    assert found["w"].item() == pytest.approx(4 * weights[1].item(), rel=1e-6)
    assert values(merge("btm(weights=(1, 0))", [one, other])) == [0.0]


def test_a_model_linear_in_its_weights_averages_to_its_ensemble():
    random = torch.Generator().manual_seed(0)
    model = nn.Linear(4, 3, dtype=F64)
    members = [
        {n: torch.randn(p.shape, generator=random, dtype=F64) for n, p in model.named_parameters()}
        for _ in range(3)
    ]
    x = torch.randn(5, 4, generator=random, dtype=F64)
    own = model(x)
    outputs = Ensemble(model, members, "values")(x)
    soup = torch.func.functional_call(model, merge("model-soups", members), (x,))
    torch.testing.assert_close(outputs, soup)
    each = [torch.func.functional_call(model, w, (x,)).softmax(-1) for w in members]
    torch.testing.assert_close(Ensemble(model, members)(x).exp(), torch.stack(each).mean(0))
    weighted = Ensemble(model, members, weights=(0, 1, 0))(x).exp()
    torch.testing.assert_close(weighted, each[1])
    assert torch.equal(model(x), own)
    with pytest.raises(UsageError, match="found none"):
        Ensemble(model, [])


@pytest.mark.parametrize("weights", [(1, -1), (0, 0), ("a", 1), (math.inf, 1), (), 3])
def test_impossible_weights_are_refused(weights):
    with pytest.raises(UsageError):
        UniformSoup(weights)


def test_other_things_than_models_are_refused():
    with pytest.raises(UsageError, match="a module or a state dict"):
        merge("model-soups", [torch.zeros(2)])
    with pytest.raises(UsageError, match="takes exactly 2 models, found 3"):
        merge("slerp", [tensor(1)] * 3)
