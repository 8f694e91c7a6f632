"""Mutants of rules for matrices that no test can tell from the rule, each with the reason why."""

_SHARDED = (
    "does nothing to a whole tensor; the run on two processes in the conformance suite needs it"
)

_EITHER_ORDER = "it is looked for in all of them, in whichever order"

_PROJECTED = "d, g, p = (gathered(d), gathered(g), gathered(p))"
_LESS_GATHERED = {
    (_PROJECTED, after): _SHARDED
    for after in (
        "(removed)",
        "d, g, p = (d, gathered(g), gathered(p))",
        "d, g, p = (gathered(d), g, gathered(p))",
        "d, g, p = (gathered(d), gathered(g), p)",
    )
}

EQUIVALENTS: dict[str, dict[tuple[str, str], str]] = {
    "engine/blocks.py": {
        (
            "runs = (_Run(slice(whole), size // limit, limit), "
            "_Run(slice(whole, size), 1, size - whole))",
            "runs = (_Run(slice(whole, size), 1, size - whole), "
            "_Run(slice(whole), size // limit, limit))",
        ): "the stacks come in another order, and go back in it",
    },
    "engine/subsets.py": {
        (
            "target = self.subset_size if self.subset_size > 0 "
            "else int(count ** 0.5 / -self.subset_size)",
            "target = self.subset_size if self.subset_size >= 0 "
            "else int(count ** 0.5 / -self.subset_size)",
        ): "0 is refused",
        (
            "target = self.subset_size if self.subset_size > 0 "
            "else int(count ** 0.5 / -self.subset_size)",
            "target = self.subset_size if self.subset_size > 1 "
            "else int(count ** 0.5 / -self.subset_size)",
        ): "a target below 1 gives runs of 1, as 1 does",
        (
            "sizes = range(min(count, limit), 1, -1)",
            "sizes = range(limit, 1, -1)",
        ): "no larger number divides; looking at them only takes longer",
    },
    "engine/subspace.py": {
        (
            "return {**super().scalars(t), 't': t, 'held': held}",
            f"return {{**super().scalars(t), 't': t {sign} 1, 'held': held}}",
        ): "another random draw, as good as this one"
        for sign in "+-"
    }
    | {
        ("vt = torch.linalg.svd(finite, full_matrices=False)[2]", after): (
            "the rows that are read are the same; finding the others too takes longer"
        )
        for after in (
            "vt = torch.linalg.svd(finite)[2]",
            "vt = torch.linalg.svd(finite, full_matrices=True)[2]",
        )
    }
    | {
        (
            "finite = torch.where(torch.isfinite(x).all(), x, 0.0).to(at_least_single(x))",
            "finite = torch.where(torch.isfinite(x).all(), x, 0.1).to(at_least_single(x))",
        ): "any subspace does for a gradient that is not finite",
    },
    "engine/low_rank.py": {
        ("matrix = gathered(g).flatten(1)", "matrix = g.flatten(1)"): _SHARDED,
        (
            "finite = torch.where(torch.isfinite(x).all(), x, 0.0).to(at_least_single(x))",
            "finite = torch.where(torch.isfinite(x).all(), x, 0.1).to(at_least_single(x))",
        ): "any orthonormal columns do for a gradient that is not finite",
        (
            "return torch.where(largest < 0, -rows, rows).mT.to(x.dtype)",
            "return torch.where(largest <= 0, -rows, rows).mT.to(x.dtype)",
        ): "the largest entry of a unit vector is not 0",
        **{
            ("rows = torch.linalg.svd(finite, full_matrices=False)[2][:rank]", after): (
                "the rows that are read are the same; finding the others too takes longer"
            )
            for after in (
                "rows = torch.linalg.svd(finite)[2][:rank]",
                "rows = torch.linalg.svd(finite, full_matrices=True)[2][:rank]",
            )
        },
    },
    "optim/psgd_kron.py": {
        (
            "v = v / (torch.linalg.vector_norm(v, dim=1, keepdim=True) + tiny) @ a",
            "v = v / (torch.linalg.vector_norm(v, dim=1, keepdim=True) - tiny) @ a",
        ): "the norm is 0, where both give 0, or so large that tiny is lost in rounding",
        ("return torch.zeros_like(g)", "return g"): "neither has an entry",
        (
            "m, fitted = (gathered(x).reshape(shape).to(dtype) "
            "for x in (m, g if self.whiten_grad else m))",
            "m, fitted = (x.reshape(shape).to(dtype) for x in (m, g if self.whiten_grad else m))",
        ): _SHARDED,
    },
    "optim/scion.py": {
        ("x = gathered(mean)", "x = mean"): _SHARDED,
        (
            "if self.norm in ('auto', 'spectral'):",
            "if self.norm in ('spectral', 'auto'):",
        ): _EITHER_ORDER,
    },
    "optim/shampoo.py": {
        (
            "if self.grafting not in ('none', 'sgd'):",
            "if self.grafting not in ('sgd', 'none'):",
        ): _EITHER_ORDER,
        (
            "whole = [wide(gathered(x)).reshape(y.exp_avg.shape) "
            "for x, y in zip(g, s, strict=True)]",
            "whole = [wide(x).reshape(y.exp_avg.shape) for x, y in zip(g, s, strict=True)]",
        ): _SHARDED,
        (
            "d = d.add(gathered(weight).reshape(d.shape), alpha=k.weight_decay)",
            "d = d.add(weight.reshape(d.shape), alpha=k.weight_decay)",
        ): _SHARDED,
        (
            "values, vectors = torch.linalg.eigh(torch.where(finite, x, 0.0))",
            "values, vectors = torch.linalg.eigh(torch.where(finite, x, 0.1))",
        ): "what comes of it is replaced by NaN",
    }
    | {
        ("alike.setdefault(factor.size(-1), []).append((factor, root, power))", after): (
            "a square matrix's two sizes are the same"
        )
        for after in (
            "alike.setdefault(factor.size(1), []).append((factor, root, power))",
            "alike.setdefault(factor.size(-2), []).append((factor, root, power))",
        )
    },
    "optim/sn_sm.py": {("g = gathered(g)", after): _SHARDED for after in ("(removed)", "g = g")},
    "optim/steepest_descent.py": {
        (
            "if self.size in ('all', 'distance'):",
            "if self.size in ('distance', 'all'):",
        ): _EITHER_ORDER,
        (
            "sums['dual'] = _product(g, like(self._steepest(gathered(g)), g))",
            "sums['dual'] = _product(g, self._steepest(gathered(g)))",
        ): _SHARDED,
        (
            "sums['dual'] = _product(g, like(self._steepest(gathered(g)), g))",
            "sums['dual'] = _product(g, like(self._steepest(g), g))",
        ): _SHARDED,
        ("g = gathered(g)", "(removed)"): _SHARDED,
        ("g = gathered(g)", "g = g"): _SHARDED,
        (
            "return x / torch.where(norm == 0, 1.0, norm)",
            "return x / torch.where(norm == 0, 1.2, norm)",
        ): "0 is divided",
    },
    "optim/subset_norm.py": {
        ("return self.divided(gathered(m), gathered(g), s, k)", after): _SHARDED
        for after in (
            "return self.divided(m, gathered(g), s, k)",
            "return self.divided(gathered(m), g, s, k)",
        )
    },
    "optim/subspace_momentum.py": {
        (
            "momentum, outside = self.split(gathered(g), s, k.momentum, k)",
            "outside, momentum = self.split(gathered(g), s, k.momentum, k)",
        ): "they are added",
        (
            "momentum, outside = self.split(gathered(g), s, k.momentum, k)",
            "momentum, outside = self.split(g, s, k.momentum, k)",
        ): _SHARDED,
    },
    "optim/adago.py": {
        (
            "o = orthogonalised(gathered(b), self.exact, self.ns_steps)",
            "o = orthogonalised(b, self.exact, self.ns_steps)",
        ): _SHARDED,
        (
            "norm = torch.linalg.vector_norm(gathered(g), dtype=s.norm_sq.dtype)"
            ".clamp(max=k.gamma)",
            "norm = torch.linalg.vector_norm(g, dtype=s.norm_sq.dtype).clamp(max=k.gamma)",
        ): _SHARDED,
    },
    "optim/adamp.py": _LESS_GATHERED,
    "optim/sgdp.py": _LESS_GATHERED,
}
