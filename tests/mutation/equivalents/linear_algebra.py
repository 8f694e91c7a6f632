"""Of matrix functions that rules share, and of the rules on them."""

_COST = "decides only how much time or memory is taken; the numbers are the same"
_TYPES = "for type checkers; Python takes both"
_SHARDED = "the run on two processes in the conformance suite needs it"
_SIDE = "the Gram matrix of either side will do; that of the shorter one costs less"
_FIRST = "the first call of SOAP moves nothing: its step is 0 and its direction is 0"
_TINY = "1e-30 only keeps 0 / 0 from being NaN; beside anything else it is lost in rounding"
_UNREAD = "the first call sets it before anything reads it"

_TURNED = "d = self._direction(stack([{}.reshape(shape) for x in g]), state, k, axes)"
_MEANS = "d = d / (means.reshape(-1, *[1] * (d.ndim - 1)) {})"
_LONG = "long = max(rows, columns) {} 1.5 * min(rows, columns) and x.dtype.itemsize >= {}"
_STEPS = "return max(1, int(math.log(2000) / math.log(max(a * a, 2))))"

EQUIVALENTS: dict[str, dict[tuple[str, str], str]] = {
    "engine/linear_algebra.py": {
        ("wide = rows <= columns", "wide = rows < columns"): _SIDE,
        (_LONG.format(">=", 4), _LONG.format(">=", 3)): "no dtype has three bytes",
        (
            _LONG.format(">=", 4),
            _LONG.format(">", 4),
        ): "at 1.5 itself both forms take as many operations, and give the same",
        **{
            (_STEPS, _STEPS.replace("2000", near)): "so near, whole steps are the same"
            for near in ("2001", "1999")
        },
        (
            "return tuple(merged)",
            "return merged",
        ): "a shape may be a list or a tuple",
    },
    "optim/adafactor.py": {
        (
            "eps1 = -1.0 if self.eps[0] is None else self.eps[0]",
            "eps1 = -1.2 if self.eps[0] is None else self.eps[0]",
        ): "any negative number stands for the dtype's own epsilon",
    },
    "optim/muon.py": {
        (
            "u = stack([gathered(self._momentum(*one, k)) for one in zip(g, s, strict=True)])",
            "u = stack([self._momentum(*one, k) for one in zip(g, s, strict=True)])",
        ): _SHARDED,
    },
    "optim/soap.py": {
        ("state[f'basis_{axis}'] = torch.zeros_like(square)", "(removed)"): _UNREAD,
        (
            "state[f'basis_{axis}'] = torch.zeros_like(square)",
            "state[f'basis_{axis}'] = square",
        ): _UNREAD,
        (
            "names = [f'{kind}_{axis}' for axis in axes for kind in ('factor', 'basis')]",
            "names = [f'{kind}_{axis}' for axis in axes for kind in ('basis', 'factor')]",
        ): "only the order of the dictionary differs",
        ("d = torch.div(m, root, out=root)", "d = torch.div(m, root)"): _COST,
        ("return (0.0, 0.0)", "return (0.1, 0.0)"): _FIRST,
        ("return torch.zeros_like(g)", "return g"): _FIRST,
        (_TURNED.format("gathered(x)"), _TURNED.format("x")): _SHARDED,
        (
            "basis = torch.linalg.eigh(_factor(s, axis))[1].flip(-1)",
            "basis = torch.linalg.eigh(_factor(s, axis))[1]",
        ): "the first basis may have any order: v is 0 then, and refreshes sort the columns",
        **{
            (_MEANS.format("+ 1e-30"), _MEANS.format(after)): _TINY
            for after in ("- 1e-30", "+ 1.2000000000000001e-30")
        },
        (
            "return merge_axes(tuple(p.shape), self.max_precond_dim) "
            "if self.merge_dims else p.shape",
            "return merge_axes(p.shape, self.max_precond_dim) if self.merge_dims else p.shape",
        ): "a shape may be a list or a tuple",
        **{
            ("short = basis[0].numel() <= s.exp_avg[0].numel()", after): _COST
            for after in (
                "short = basis[0].numel() < s.exp_avg[0].numel()",
                "short = basis[0].numel() > s.exp_avg[0].numel()",
            )
        },
        (
            "carried[axis] = [basis.mT @ new] if short else [basis.mT, new]",
            "carried[axis] = [basis.mT, new] if short else [basis.mT @ new]",
        ): _COST,
    },
    "engine/stacks.py": {
        ("_SMALL = 65536", "_SMALL = 65537"): _COST,
        **{
            (
                "Together = Callable[[list[Tensor], list[Tensor], list[State], Numbers], "
                "Tensor | Sequence[Tensor]]",
                f"Together = Callable[[list[Tensor], list[Tensor], list[State], Numbers], {after}]",
            ): _TYPES
            for after in ("Tensor", "Sequence[Tensor]")
        },
        (
            "if x.numel() <= _SMALL and (not is_distributed(x)):",
            "if x.numel() <= _SMALL:",
        ): _SHARDED,
        (
            "alike.setdefault((x.shape, x.dtype, x.device), []).append(i)",
            "alike.setdefault((x.dtype, x.shape, x.device), []).append(i)",
        ): "a key may have its parts in any order",
        (
            "return torch.stack(list(tensors)) if len(tensors) > 1 else tensors[0][None]",
            "return torch.stack(tensors) if len(tensors) > 1 else tensors[0][None]",
        ): _TYPES,
        (
            "if len(states) > 1:",
            "if len(states) >= 1:",
        ): "copying into a single state, instead of giving it the new tensor, is right too",
    },
}
