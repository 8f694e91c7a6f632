"""Mutants of adaptive rules that no test can tell from the rule, each with the reason why."""

_SHARDED = (
    "does nothing to a whole tensor; the run on two processes in the conformance suite needs it"
)

EQUIVALENTS: dict[str, dict[tuple[str, str], str]] = {
    "optim/eg_plus_minus.py": {
        ("w = _neurons(gathered(p.detach()))", "w = _neurons(p.detach())"): _SHARDED,
        ("whole = gathered(p)", "whole = p"): _SHARDED,
        (
            "gradient = _neurons(gathered(g) + whole * k.weight_decay).to(s.positive.dtype)",
            "gradient = _neurons(g + whole * k.weight_decay).to(s.positive.dtype)",
        ): _SHARDED,
    },
    "optim/gravity.py": {
        (
            "return {'velocity': like(start.to(p.device, p.dtype), p)}",
            "return {'velocity': start.to(p.device, p.dtype)}",
        ): _SHARDED,
        ("g = gathered(g)", "(removed)"): "only a process with an empty shard needs the whole",
        ("g = gathered(g)", "g = g"): "only a process with an empty shard needs the whole",
        (
            "damped = like(g / (1 + (g * g.abs().max()) ** 2), p)",
            "damped = g / (1 + (g * g.abs().max()) ** 2)",
        ): _SHARDED,
    },
    "optim/opt_amsgrad.py": {
        (
            "differences = [x - y for x, y in pairwise(newest)]",
            "differences = [x - y for y, x in pairwise(newest)]",
        ): "products of two differences do not see the sign of both",
    },
}
