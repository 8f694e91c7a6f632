"""Mutants of rules on manifolds that no test of one process can tell."""

_SHARDED = (
    "does nothing to a whole tensor; the run on two processes in the conformance suite needs it"
)

_SIGNS = "y = q * torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(q).unsqueeze(-2)"

EQUIVALENTS = {
    "engine/manifold.py": {
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
        (_SIGNS, _SIGNS.replace("q * torch", "q / torch")): "1 and -1 are their own inverses",
        (_SIGNS, _SIGNS.replace("< 0", "<= 0")): "a 0 in R leaves its column's sign open",
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
