"""Rules that look further than one gradient get from the training loop what they need."""

import pytest
import torch
from torch import nn

import thalweg.optim  # noqa: F401 - registers the rules
from thalweg.core import registry
from thalweg.core.errors import UsageError
from thalweg.engine import ClosureOptimizer
from thalweg.train import fit
from thalweg.train.provisions import Outputs, Provisions
from thalweg.workload import Workload

CLOSURE_RULES = [
    part.slug
    for part in registry.parts("rule")
    if isinstance(part.factory, type) and issubclass(part.factory, ClosureOptimizer)
]


# Made for log-convex functions, and no others.
CONVEX = ("filtered-newton",)


def small(convex: bool = False) -> Workload:
    """Return a classification problem that second-order rules afford."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(70, 3, generator=random)
    y = (x[:, 0] * x[:, 1] > 0).long()

    def loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    return Workload(
        name="small",
        title="Small",
        model=lambda: (
            nn.Linear(3, 2)
            if convex
            else nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        ),
        train=(x, y),
        validation=(x, y),
        loss=loss,
        metric=lambda model, batch: float(loss(model, batch).detach()),
        metric_name="loss",
        higher_is_better=False,
        batch_size=16,
        steps=8,
    )


@pytest.mark.parametrize("slug", CLOSURE_RULES)
def test_every_such_rule_trains_and_repeats(slug: str) -> None:
    task = small(convex=slug in CONVEX)
    recipe = f"{slug} + lookahead(k=2) + warmup(0.3) + ema(0.5)"
    one, two = (fit(task, recipe, seed=3, threads=1) for _ in range(2))
    assert one.status == "ok"
    assert one.final_metric == two.final_metric
    start = fit(task, f"{slug}(lr=0.0)", steps=1, seed=3, threads=1).final_metric
    assert one.final_metric != start


def _provisions() -> tuple[Provisions, nn.Module, Workload]:
    workload = small()
    torch.manual_seed(0)
    model = workload.model()
    return (
        Provisions(workload, lambda b: workload.loss(model, b), torch.device("cpu")),
        model,
        workload,
    )


def test_the_full_loss_and_its_terms_are_those_of_all_samples() -> None:
    provisions, model, workload = _provisions()
    expected = workload.loss(model, workload.train)
    gradients = torch.autograd.grad(expected, list(model.parameters()))
    full = provisions._full()
    torch.testing.assert_close(full, expected.detach())
    for p, g in zip(model.parameters(), gradients, strict=True):
        assert p.grad is not None
        torch.testing.assert_close(p.grad, g, rtol=1e-4, atol=1e-6)
    terms = [term() for term in provisions._components()]
    assert len(terms) == 5
    torch.testing.assert_close(torch.stack(terms).mean(), expected)
    with torch.no_grad():
        torch.testing.assert_close(provisions._full(), expected.detach())
    first = tuple(x[:16] for x in workload.train)
    torch.testing.assert_close(provisions._proxy(), workload.loss(model, first))


def test_a_step_over_many_batches_is_not_recorded(monkeypatch) -> None:
    # small() has five batches; a record of all allocations grows with them.
    for most, slugs in ((5, {"svrg", "saga", "proxy"}), (4, {"proxy"})):
        monkeypatch.setattr("thalweg.train.run.RECORDED", most)
        for slug in ("svrg", "saga", "proxy"):
            measured = fit(small(), slug, steps=3).peak_bytes is not None
            assert measured == (slug in slugs)


def test_outputs_are_those_of_the_loss() -> None:
    model = nn.Linear(3, 2)
    outputs = Outputs(model)
    loss = model(torch.ones(4, 3)).square().sum()
    found, seen = outputs.beside(loss, "EGN")
    assert found is loss
    (g,) = torch.autograd.grad(loss, seen)
    torch.testing.assert_close(g, 2 * seen.detach())
    with pytest.raises(UsageError, match="one tensor"):
        outputs.beside(loss, "EGN")


def test_micro_batches_and_outputs_do_not_go_together() -> None:
    slugs = [s for s in CLOSURE_RULES if registry.get(s).factory.needs_outputs]  # type: ignore[attr-defined]
    for slug in slugs:
        with pytest.raises(UsageError, match="accumulate=1"):
            fit(small(), slug, accumulate=2)


def test_micro_batches_give_the_same_loss() -> None:
    whole = fit(small(), "storm(lr=0.1)", seed=1, threads=1)
    parts = fit(small(), "storm(lr=0.1)", seed=1, threads=1, accumulate=2)
    assert abs(whole.final_metric - parts.final_metric) < 1e-5
