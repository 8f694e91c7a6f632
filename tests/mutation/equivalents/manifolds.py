"""Mutants of rules on manifolds that no test of one process can tell."""

_SHARDED = (
    "does nothing to a whole tensor; the run on two processes in the conformance suite needs it"
)

_SIGNS = "y = q {} torch.ones_like(diagonal).copysign(diagonal).unsqueeze(-2)"

_SUMS = "xy, xx, yy = ((a * b).sum(-1, keepdim=True) for {} in ({}, (x, x), (y, y)))"
_DOTS = (
    "ab, av, bv, aa, bb = ((p * q).sum(-1, keepdim=True) for {} in ({}, {}, {}, (a, a), (b, b)))"
)
_PAIRS = ("p, q", "(a, b)", "(a, v)", "(b, v)")
_PRODUCT = "a product is the same in either order"

EQUIVALENTS = {
    "engine/manifold.py": {
        (_SUMS.format("a, b", "(x, y)"), _SUMS.format("b, a", "(x, y)")): _PRODUCT,
        (_SUMS.format("a, b", "(x, y)"), _SUMS.format("a, b", "(y, x)")): _PRODUCT,
        **{
            (_DOTS.format(*_PAIRS), _DOTS.format(*pairs)): _PRODUCT
            for pairs in (
                ("q, p", "(a, b)", "(a, v)", "(b, v)"),
                ("p, q", "(b, a)", "(a, v)", "(b, v)"),
                ("p, q", "(a, b)", "(v, a)", "(b, v)"),
                ("p, q", "(a, b)", "(a, v)", "(v, b)"),
            )
        },
        (
            "return (u * u).sum((-2, -1), keepdim=True)",
            "return (u * u).sum((-1, -2), keepdim=True)",
        ): "a sum over two axes is the same in either order",
        (
            "unit = u / torch.where(angle == 0, 1, angle)",
            "unit = u / torch.where(angle == 0, 2, angle)",
        ): "0 is divided",
        (
            "unit = u / torch.where(norm == 0, 1, norm)",
            "unit = u / torch.where(norm == 0, 2, norm)",
        ): "0 is divided",
        (
            "return torch.where(norm > largest, x * (largest / norm), x)",
            "return torch.where(norm >= largest, x * (largest / norm), x)",
        ): "at the largest norm itself, x is multiplied by 1",
        (_SIGNS.format("*"), _SIGNS.format("/")): "1 and -1 are their own inverses",
    },
    "engine/riemannian.py": {
        ("whole = gathered(p)", "whole = p"): _SHARDED,
        ("before = gathered(p)", "before = p"): _SHARDED,
        (
            "r = manifold.egrad2rgrad(x, gathered(g) + x * k.weight_decay)",
            "r = manifold.egrad2rgrad(x, g + x * k.weight_decay)",
        ): _SHARDED,
    },
    "optim/riemannian_sgd.py": {
        (
            "return {'momentum_buffer': torch.zeros_like(gathered(p))}",
            "return {'momentum_buffer': torch.zeros_like(p)}",
        ): _SHARDED,
    },
    "optim/riemannian_adam.py": {
        ("whole = gathered(p)", "whole = p"): _SHARDED,
    },
}
