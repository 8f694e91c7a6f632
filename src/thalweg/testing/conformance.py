"""What every rule has to pass because it is registered."""

from collections.abc import Callable
from typing import Any

from thalweg.engine import ClosureOptimizer
from thalweg.testing import arithmetic, closures, integration, persistence
from thalweg.testing.sharding import check_sharding
from thalweg.testing.subject import Subject

CHECKS: dict[str, Callable[[Subject], None]] = {
    "executions agree": arithmetic.check_executions_agree,
    "one kernel while all numbers change": arithmetic.check_one_kernel,
    "update reads g and p only": arithmetic.check_reads_only,
    "concatenation": arithmetic.check_concatenation,
    "maximize": arithmetic.check_maximize,
    "half precision": arithmetic.check_half_precision,
    "not contiguous": arithmetic.check_layouts,
    "NaN stays": arithmetic.check_nan_stays,
    "no compiler": arithmetic.check_no_compiler,
    "resume": persistence.check_resume,
    "names": persistence.check_names,
    "mismatch": persistence.check_mismatch,
    "copies": persistence.check_copies,
    "evaluation weights": persistence.check_evaluation_weights,
    "missing gradients": integration.check_missing_gradients,
    "groups": integration.check_groups,
    "schedulers": integration.check_schedulers,
    "closure": integration.check_closure,
    "gradient scaler": integration.check_gradient_scaler,
    "refusals": integration.check_refusals,
    "description": integration.check_description,
}

CLOSURE_CHECKS: dict[str, Callable[[Subject], None]] = {
    "moves": closures.check_moves,
    "p.grad stays": closures.check_gradients_untouched,
    "both closures": closures.check_both_closures,
    "maximize": closures.check_maximize,
    "loss": closures.check_loss,
    "no closure": closures.check_no_closure,
    "failing closure": closures.check_failing_closure,
    "NaN stays": closures.check_nan_stays,
    "precision": closures.check_precision,
    "resume": persistence.check_resume,
    "names": persistence.check_names,
    "mismatch": persistence.check_mismatch,
    "copies": persistence.check_copies,
    "evaluation weights": persistence.check_evaluation_weights,
    "schedulers": integration.check_schedulers,
    "description": integration.check_description,
}


def checks_of(slug: str) -> dict[str, Callable[[Subject], None]]:
    """Return the checks that a rule has to pass, by name."""
    closure = issubclass(Subject(slug).optimizer, ClosureOptimizer)
    return CLOSURE_CHECKS if closure else CHECKS


def check_rule(slug: str, *, sharding: bool = True, **hyper: Any) -> None:
    """Run every conformance check on a registered rule.

    Covered: the three executions agree; one kernel serves while learning rate, betas, decay and
    step change; ``update`` and ``step`` leave gradients alone; an element-wise rule gives the same
    numbers on concatenated tensors; half precision, other memory layouts, 0-d and empty tensors,
    missing gradients; NaN stays NaN; no compiler costs one warning; saving, loading, names,
    copies; groups, torch's schedulers, closures, `GradScaler`; refusals; and a run sharded over
    two processes equals the dense one. A rule that evaluates a closure is checked for what its
    closure may do instead, and for equality or a clear refusal when sharded.

    Args:
        slug: of the rule; import the module that registers it first.
        sharding: also start two processes, which takes seconds.
        **hyper: hyper-parameters to check with besides the defaults.

    Raises:
        AssertionError: the first check that fails, with what was found.
    """
    subject = Subject(slug, hyper)
    for name, check in checks_of(slug).items():
        try:
            check(subject)
        except AssertionError as error:
            raise AssertionError(f'{slug} fails "{name}": {error}') from error
    if sharding:
        check_sharding([slug])
