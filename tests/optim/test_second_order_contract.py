"""Second-order rules keep the contract of all rules with any settings, and their defaults."""

import inspect
from typing import Any

import pytest
import torch

import thalweg.optim  # noqa: F401 - registers the rules
from reference import PROCEDURES
from thalweg.core import registry
from thalweg.testing import check_rule

RULES = [
    ("adahessian", {"n_samples": 2}),
    ("oasis", {}),
    ("oasis", {"adaptive": False, "momentum": 0.7}),
    ("sophia", {"update_period": 2}),
    ("newton", {}),
    ("newton", {"line_search": False, "damping": 0.1}),
    ("gauss-newton", {"line_search": True, "adaptive_damping": True}),
    ("gauss-newton", {"solver": "cg"}),
    ("egn", {"momentum": 0.5, "adaptive_damping": True}),
    ("tngd", {"adam": True}),
    ("tngd", {"delay": 0.3, "time": 0.2, "noise": 0.01}),
    ("saddle-free-newton", {"krylov_dim": 3}),
    ("saddle-free-newton", {"adaptive_damping": True}),
    # The contract's Hessian is 2 I, of whose eigenvectors a smaller rank leaves out any.
    ("saddle-free-newton", {"rank": 1000, "damping": 0.1}),
    ("lbfgs", {"history_size": 2}),
    ("lbfgs", {"line_search_fn": None, "max_iter": 2}),
    ("filtered-newton", {}),
    ("grad-norm-smooth-newton", {}),
    ("grad-norm-smooth-newton", {"approximation": "hessian", "gamma0": 50.0}),
]


@pytest.mark.parametrize(("slug", "hyper"), RULES)
def test_conforms(slug: str, hyper: dict[str, Any]) -> None:
    check_rule(slug, sharding=False, execution="loop", **hyper)


SLUGS = [
    *("adahessian", "oasis", "sophia", "newton", "gauss-newton", "egn", "tngd"),
    *("saddle-free-newton", "lbfgs", "filtered-newton", "grad-norm-smooth-newton"),
]


# What no procedure takes.
OTHER_DEFAULTS: dict[str, dict[str, Any]] = {
    "adahessian": {"n_samples": 1, "average_conv_kernel": True, "seed": 0},
    "oasis": {"warm_start": 10, "seed": 0},
    "sophia": {"estimator": "hutchinson", "seed": 0},
    "gauss-newton": {"solver": "dense", "cg_iterations": 50, "cg_tolerance": 1e-6},
    "tngd": {"seed": 0},
    "saddle-free-newton": {"seed": 0},
}


@pytest.mark.parametrize("slug", SLUGS)
def test_defaults_are_the_procedures(slug: str) -> None:
    rule = registry.get(slug, "rule").factory.rule  # type: ignore[attr-defined]
    given = inspect.signature(PROCEDURES[slug]).parameters.items()
    expected = {name: x.default for name, x in given} | OTHER_DEFAULTS.get(slug, {})
    assert {name: expected[name] for name in rule.fields()} == rule.fields()


@pytest.mark.parametrize("slug", SLUGS)
def test_state_is_float32_at_least_and_has_no_graph(slug: str) -> None:
    rule = registry.get(slug, "rule").factory.rule()  # type: ignore[attr-defined]
    for dtype in (torch.float32, torch.float64):
        for x in rule.init(torch.ones(3, 2, dtype=dtype, requires_grad=True)).values():
            assert x.dtype == dtype
            assert not x.requires_grad
