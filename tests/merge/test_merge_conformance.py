"""What every registered merge promises, whatever it does."""

import itertools

import pytest
import torch

import thalweg.merge  # noqa: F401 - fills the registry
from thalweg.core.errors import UsageError
from thalweg.core.registry import get, slugs
from thalweg.landscape import Objective
from thalweg.merge import Merge, merge, named

MERGES = slugs("merge")
# At their defaults these add task vectors up, or drop entries at random.
NOT_A_MEAN = {"task-arithmetic", "dare", "gradient-matching-merge"}
ORDERED = {"slerp": "slerp(t=0.3)", "dare": "dare"}


class Net(torch.nn.Module):
    """A linear layer, a matrix, batch norm and a buffer of whole numbers."""

    def __init__(self, seed):
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        self.linear = torch.nn.Linear(4, 3)
        self.norm = torch.nn.BatchNorm1d(3)
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.register_buffer("places", torch.arange(3))
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=random))
            self.norm.running_mean.copy_(torch.randn(3, generator=random))
            self.norm.running_var.copy_(torch.rand(3, generator=random) + 0.5)
            self.norm.num_batches_tracked.fill_(seed)

    def forward(self, x):
        return self.norm(self.linear(x)) * self.scale


def loss(model, batch):
    return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])


def objective():
    random = torch.Generator().manual_seed(9)
    x = torch.randn(24, 4, generator=random)
    batches = [(x[i : i + 8], torch.arange(8) % 3) for i in (0, 8, 16)]
    return Objective(Net(99), loss, batches)


def statistics(kind, weights, seed, same=False):
    random = torch.Generator().manual_seed(7 if same else seed)
    if kind == "gram":
        x = torch.randn(20, 4, generator=random)
        return {"linear.weight": x.mT @ x / 20}
    names = ("linear.weight", "linear.bias", "scale")
    return {name: torch.rand(weights[name].shape, generator=random) + 0.1 for name in names}


def asked(method, models, same=False):
    """Return all that any merge may need."""
    given = {"objective": objective(), "score": lambda w: -float(w["linear.weight"].norm())}
    if method.needs_statistics:
        given["statistics"] = [
            statistics(method.needs_statistics, w, i, same) for i, w in enumerate(models)
        ]
        if method.needs_base_statistics:
            given["base_statistics"] = statistics(method.needs_statistics, models[0], 50, same)
    return given


def models_for(method, count=3):
    return [Net(seed).state_dict() for seed in range(1, min(count, method.most) + 1)]


def converted(weights, dtype):
    return {n: x.to(dtype) if x.is_floating_point() else x for n, x in weights.items()}


@pytest.mark.parametrize("slug", MERGES)
def test_a_part_describes_itself(slug):
    part = get(slug, "merge")
    assert part.summary.endswith(".")
    assert "arXiv" in part.reference or "19" in part.reference
    assert isinstance(part.factory(), Merge)
    assert all(name in (part.factory.__doc__ or "") for name in part.parameters)


@pytest.mark.parametrize("slug", MERGES)
def test_equal_models_give_that_model(slug):
    method = named(slug)
    one = Net(1).state_dict()
    models = [one] * int(min(3, method.most))
    base = one if slug in NOT_A_MEAN else Net(2).state_dict()
    if slug == "ties":
        method = named("ties(density=1.0)")
    found = merge(method, models, base, **asked(method, models, same=True))
    assert found.keys() == one.keys()
    for name, x in one.items():
        if method.complete and "running" in name:
            continue  # recomputed on data
        # Through a base there is a rounding: b + (w - b).
        torch.testing.assert_close(found[name], x, rtol=2e-6, atol=2e-7, msg=name)
        if not method.needs_base and slug != "vanishing-variance":
            assert torch.equal(found[name], x), name


@pytest.mark.parametrize("slug", MERGES)
def test_the_order_of_models_matters_only_where_it_says_so(slug):
    method = named(ORDERED.get(slug, slug))
    models, base = models_for(method), Net(4).state_dict()
    given = asked(method, models)
    first = merge(method, models, base, **given)
    changed = False
    for order in itertools.permutations(range(len(models))):
        if "statistics" in given:
            given["statistics"] = [asked(method, models)["statistics"][i] for i in order]
        found = merge(method, [models[i] for i in order], base, **given)
        for name, x in first.items():
            if slug not in ORDERED:
                torch.testing.assert_close(found[name], x, rtol=1e-4, atol=1e-5, msg=name)
            changed = changed or not torch.allclose(found[name], x)
    assert changed == (slug in ORDERED)


@pytest.mark.parametrize("slug", MERGES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_dtypes_are_kept_and_low_precision_is_only_the_last_step(slug, dtype):
    method = named(slug)
    given = [converted(w, dtype) for w in models_for(method)]
    base = converted(Net(4).state_dict(), dtype)
    wanted = asked(method, models_for(method))
    if method.chooses:
        method = named("model-soups")  # what is chosen may depend on roundings
    found = merge(method, given, base, **wanted)
    wide = [converted(w, torch.float64) for w in given]
    exact = merge(method, wide, converted(base, torch.float64), **wanted)
    for name, x in exact.items():
        assert found[name].dtype == given[0][name].dtype
        if x.is_floating_point():
            # One unit of the last place: float32 may round to the other side.
            step = torch.finfo(dtype).eps * (1 if dtype != torch.float64 else 16)
            torch.testing.assert_close(found[name].double(), x, rtol=step, atol=1e-5 * step**0.5)


@pytest.mark.parametrize("slug", MERGES)
def test_models_are_unchanged_and_the_result_shares_nothing_with_them(slug):
    method = named(slug)
    models, base = models_for(method), Net(4).state_dict()
    copies = [{n: x.clone() for n, x in w.items()} for w in (*models, base)]
    found = merge(method, models, base, **asked(method, models))
    for x in found.values():
        x.zero_()
    for weights, copy in zip((*models, base), copies, strict=True):
        assert all(torch.equal(weights[n], x) for n, x in copy.items())


@pytest.mark.parametrize("slug", MERGES)
def test_what_is_no_weight_is_not_merged_by_the_formula(slug):
    method = named(slug)
    models = models_for(method)
    found = merge(method, models, Net(4).state_dict(), **asked(method, models))
    assert torch.equal(found["places"], torch.arange(3))
    assert found["norm.num_batches_tracked"] == len(models)
    if method.chooses:
        return
    for name in ("norm.running_mean", "norm.running_var"):
        mean = torch.stack([w[name] for w in models]).double().mean(0)
        torch.testing.assert_close(found[name].double(), mean, rtol=1e-6, atol=1e-7)


def test_whole_numbers_of_any_dtype_stay_whole():
    one = {"w": torch.ones(2), "many": torch.tensor([1, 0]).bool(), "few": torch.arange(3).char()}
    other = {"w": torch.ones(2), "many": torch.tensor([1, 0]).byte(), "few": torch.arange(3).byte()}
    for dtype in (torch.uint16, torch.uint32, torch.uint64, torch.bool):
        one[str(dtype)] = torch.tensor(0).to(dtype)
        other[str(dtype)] = torch.tensor(1).to(dtype)
    found = merge("model-soups", [one, other])
    assert found["many"].dtype == torch.uint8
    assert found["many"].tolist() == [1, 0]
    assert found["few"].dtype == torch.int16
    assert all(found[name].item() == 1 for name in found if name.startswith("torch"))


@pytest.mark.parametrize("slug", MERGES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused_and_named(slug, value):
    method = named(slug)
    models = models_for(method)
    given = asked(method, models)
    models[1]["linear.bias"] = torch.tensor([0.0, value, 1.0])
    if method.chooses == "score":
        given["score"] = lambda w: 0.0
    if method.chooses == "objective":
        method = named("model-soups")
    with pytest.raises(UsageError, match=r'"linear.bias" in model 2 has entries that are'):
        merge(method, models, Net(4).state_dict(), **given)


@pytest.mark.parametrize("slug", MERGES)
def test_what_is_missing_is_asked_for(slug):
    method = named(slug)
    models = models_for(method)
    given = asked(method, models)
    if method.needs_base:
        with pytest.raises(UsageError, match="needs the base"):
            merge(method, models, **given)
    if method.needs_statistics:
        with pytest.raises(UsageError, match="statistics for each"):
            merge(method, models, Net(4).state_dict())
    if method.needs_base_statistics:
        given.pop("base_statistics")
        with pytest.raises(UsageError, match="statistics of the base"):
            merge(method, models, Net(4).state_dict(), **given)
    if method.chooses:
        given.pop(method.chooses)
        with pytest.raises(UsageError, match="chooses by"):
            merge(method, models, Net(4).state_dict(), **given)
    with pytest.raises(UsageError, match="nothing to merge"):
        merge(method, [])


@pytest.mark.parametrize("slug", MERGES)
def test_models_that_differ_are_refused_before_any_work(slug):
    method = named(slug)
    models = models_for(method)
    given = asked(method, models)
    models[1]["linear.weight"] = torch.zeros(3, 5)
    with pytest.raises(UsageError, match=r"3x4 in model 1 and 3x5 in model 2"):
        merge(method, models, Net(4).state_dict(), **given)


@pytest.mark.parametrize("slug", MERGES)
def test_the_way_that_tensors_are_cut_does_not_matter(slug, monkeypatch):
    from thalweg.merge import dare, engine

    method = named(slug)
    if method.chooses:
        pytest.skip("ends in a mean")
    monkeypatch.setattr(dare, "BLOCK", 2)
    models = models_for(method)
    given = asked(method, models)
    found = []
    for chunk in (2, 4, 1024):
        monkeypatch.setattr(engine, "CHUNK", chunk)
        found.append(merge(method, models, Net(4).state_dict(), **given))
    for other in found[1:]:
        for name, x in found[0].items():
            torch.testing.assert_close(other[name], x, rtol=1e-5, atol=1e-6, msg=name)
