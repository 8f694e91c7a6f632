"""Loading an optimiser's state: matching it to names and shapes before anything changes."""

from typing import TYPE_CHECKING, Any

from torch import Tensor

from thalweg.core.errors import UsageError
from thalweg.engine.hyper_parameters import rule_from_group
from thalweg.engine.rule import Numbers
from thalweg.engine.storage import CODES

if TYPE_CHECKING:
    from thalweg.engine.optimizer import RuleOptimizer

# Switches of other libraries that choose another formula, and the rules here that have it.
_SWITCHES = {
    "amsgrad": ("amsgrad",),
    "ams_bound": ("amsgrad",),
    "caution": ("cautious-adamw",),
    "cautious": ("cautious-adamw",),
    "corrected_weight_decay": ("adamc",),
    "fixed_decay": (),
    "adam_debias": (),
}
_DECOUPLED = ("decoupled_weight_decay", "weight_decouple")


def prepare(optimizer: "RuleOptimizer", state_dict: dict[str, Any]) -> dict[str, Any]:
    """Return the state dict with each group in the order of the optimiser's own parameters.

    Raises:
        UsageError: groups, names, rules or shapes do not match.
    """
    for key in ("state", "param_groups"):
        if key not in state_dict:
            raise UsageError(f'this is no optimiser state: it has no "{key}"')
    saved_groups = state_dict["param_groups"]
    groups = optimizer.param_groups
    if len(saved_groups) != len(groups):
        raise UsageError(
            f"the saved state has {len(saved_groups)} parameter groups and this optimiser has "
            f"{len(groups)}; build it over the same groups"
        )
    state = _states_from_elsewhere(
        state_dict["state"], [group for group in saved_groups if "rule" not in group]
    )
    prepared = []
    for index, (saved, own) in enumerate(zip(saved_groups, groups, strict=True)):
        if saved.get("rule", own["rule"]) != own["rule"]:
            raise UsageError(
                f'group {index} was saved by the rule "{saved["rule"]}" and belongs to '
                f'"{own["rule"]}" here; load it into the rule that wrote it'
            )
        _check_modifiers(index, saved, own)
        ordered = _in_own_order(index, saved, own)
        if "rule" not in saved:
            ordered = _from_elsewhere(index, ordered, own)
        prepared.append({**own, **ordered})
    for saved, own in zip(prepared, groups, strict=True):
        for key, p in zip(saved["params"], own["params"], strict=True):
            _check_shapes(optimizer, own, p, state.get(key, {}))
    return {**state_dict, "state": state, "param_groups": prepared}


def restore_dtypes(optimizer: "RuleOptimizer", state_dict: dict[str, Any]) -> None:
    """Undo the cast to the parameter's dtype that torch's loading does, for state kept in another.

    What the rule starts later keeps the dtype it was saved with.
    """
    for saved, own in zip(state_dict["param_groups"], optimizer.param_groups, strict=True):
        for key, p in zip(saved["params"], own["params"], strict=True):
            entries = state_dict["state"].get(key, {})
            fresh = optimizer._fresh_state(p, own) if entries else {}
            for name, x in entries.items():
                loaded = optimizer.state[p]
                if name == "step" or isinstance(fresh.get(name), float):
                    loaded[name] = type(fresh.get(name, 0))(x)
                elif isinstance(x, Tensor) and loaded[name].dtype != fresh.get(name, x).dtype:
                    loaded[name] = x.detach().clone().to(p.device, fresh.get(name, x).dtype)


def _check_modifiers(index: int, saved: dict[str, Any], own: dict[str, Any]) -> None:
    before, now = saved.get("modifiers", []), own.get("modifiers", [])
    if before != now and "rule" in saved:
        raise UsageError(
            f"group {index} was saved with the modifiers {before or 'none'} and has "
            f"{now or 'none'} here; build the optimiser with the same"
        )


def _from_elsewhere(index: int, saved: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return the group of another library's optimiser as far as the rule here knows its settings.

    Raises:
        UsageError: it chose another formula.
    """
    for switch, rules in _SWITCHES.items():
        if saved.get(switch) and switch not in own and own["rule"] not in rules:
            raise UsageError(
                f'group {index} was saved with {switch}=True, which "{own["rule"]}" has not; '
                + (f'load it into "{rules[0]}"' if rules else "no rule here has it")
            )
    _check_decay(index, saved, own)
    known = {key: value for key, value in saved.items() if key in own or key == "initial_lr"}
    if "adjust_lr_fn" in known and known["adjust_lr_fn"] is None:
        known["adjust_lr_fn"] = "original"  # torch's Muon
    return known


def _check_decay(index: int, saved: dict[str, Any], own: dict[str, Any]) -> None:
    """Raise a `UsageError` if the weight decay acts in another place here than it did there."""
    decoupled = next((saved[key] for key in _DECOUPLED if key in saved), None)
    settled = any(key in own for key in (*_DECOUPLED, "modifiers"))
    if decoupled is None or settled or not saved.get("weight_decay"):
        return
    rule = rule_from_group(own)
    k = Numbers(lr=1.0, weight_decay=1.0, loss=1.0, **rule.shared(), **rule.scalars(1))
    if bool(rule.step_and_decay(k)[1]) != bool(decoupled):
        raise UsageError(
            f"group {index} was saved with weight decay "
            f"{'beside' if decoupled else 'in'} the gradient, and "
            f'"{own["rule"]}" has it {"in" if decoupled else "beside"} it; load it into the rule '
            "that has it as saved, or set the saved weight_decay to 0"
        )


def _states_from_elsewhere(
    state: dict[Any, dict[str, Any]], groups: list[dict[str, Any]]
) -> dict[Any, dict[str, Any]]:
    """Return the states with a step each; other libraries keep it in the group, or not at all."""
    counted = dict(state)
    for group in groups:
        for key in group["params"]:
            if state.get(key):
                # Rules whose step nobody counts only tell the first from the others.
                counted[key] = {"step": group.get("step", 1), **state[key]}
    return counted


def _in_own_order(index: int, saved: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    if len(saved["params"]) != len(own["params"]):
        raise UsageError(
            f"group {index} was saved with {len(saved['params'])} parameters and has "
            f"{len(own['params'])} here"
        )
    if "param_names" not in saved or "param_names" not in own:
        return saved
    keys = dict(zip(saved["param_names"], saved["params"], strict=True))
    missing = [name for name in own["param_names"] if name not in keys]
    if missing:
        extra = [name for name in keys if name not in own["param_names"]]
        raise UsageError(
            f"group {index}: the saved state has no parameter named {_some(missing)}; "
            f"it has {_some(extra)} instead"
        )
    ordered = [keys[name] for name in own["param_names"]]
    return {**saved, "params": ordered, "param_names": list(own["param_names"])}


def _some(names: list[str]) -> str:
    listed = ", ".join(f'"{name}"' for name in names[:3])
    return listed + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _check_shapes(
    optimizer: "RuleOptimizer", group: dict[str, Any], p: Tensor, saved: dict[str, Any]
) -> None:
    if not saved:
        return
    expected = optimizer._fresh_state(p, group)
    for name, x in expected.items():
        if name not in saved:
            raise UsageError(
                f'the saved state of {type(optimizer).__name__} has no "{name}" for a parameter '
                f"of shape {tuple(p.shape)}; it holds {_some(list(saved))}"
            )
        if isinstance(x, Tensor) and saved[name].shape != x.shape:
            raise UsageError(
                f'the saved "{name}" has shape {tuple(saved[name].shape)} where a parameter of '
                f"shape {tuple(p.shape)} needs {tuple(x.shape)}"
            )
        if isinstance(x, Tensor) and _coded(saved[name]) != _coded(x):
            raise UsageError(
                f'the saved "{name}" is {saved[name].dtype} where this optimiser keeps {x.dtype}; '
                "build it with the same state_bits"
            )


def _coded(x: Tensor) -> bool:
    return x.dtype in CODES
