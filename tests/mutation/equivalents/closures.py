"""Mutants of rules that evaluate closures that no test can tell from the rule, with reasons."""

_SHARDED = (
    "does nothing to a whole tensor; the run on two processes in the conformance suite needs it"
)
_UNREAD = "the first step sets it before anything reads it"
_SYMMETRIC = "the matrix is symmetric, up to rounding"

EQUIVALENTS: dict[str, dict[tuple[str, str], str]] = {
    "engine/finite_sum.py": {
        (
            "return {'inner_step': 0, 'norm_sq': 0.0}",
            "return {'inner_step': 0, 'norm_sq': 0.1}",
        ): _UNREAD,
    },
    "optim/a_coder.py": {
        (
            "names = ('gradient_sum', 'gradient', 'block_gradient')",
            "names = ('gradient', 'gradient_sum', 'block_gradient')",
        ): "all of these start at zero; only the order of the dictionary differs",
        (
            "return {'weight_sum': 0.0, 'weight': 0.0}",
            "return {'weight_sum': 0.0, 'weight': 0.1}",
        ): "the first step multiplies it by the difference of two gradients that are still zero",
    },
    "optim/adahessian.py": {
        (
            "return diagonal.abs().mean((2, 3), keepdim=True).expand_as(diagonal).contiguous()",
            "return diagonal.abs().mean((3, 2), keepdim=True).expand_as(diagonal).contiguous()",
        ): "a mean over two axes is the same in either order",
    },
    "optim/egn.py": {
        (
            "right = right - curvature @ (jacobian @ rest)",
            "right = right - jacobian @ rest @ curvature",
        ): _SYMMETRIC,
    },
    "optim/filtered_newton.py": {
        ("return (covariance @ (before @ mean + measured @ f), covariance)", after): _SYMMETRIC
        for after in (
            "return ((before @ mean + measured @ f) @ covariance, covariance)",
            "return (covariance @ (mean @ before + measured @ f), covariance)",
            "return (covariance @ (before @ mean + f @ measured), covariance)",
        )
    },
    "optim/saga.py": {
        ("local(state['table'])[drawn].copy_(local(g))", after): _SHARDED
        for after in (
            "local(state['table'])[drawn].copy_(g)",
            "state['table'][drawn].copy_(local(g))",
        )
    },
    "optim/sarah.py": {
        (
            "return {**super().shared(), 'first_norm_sq': 0.0}",
            "return {**super().shared(), 'first_norm_sq': 0.1}",
        ): _UNREAD,
    },
    "optim/ai_sarah.py": {
        (
            "return {'delta': 0.0, 'first_norm_sq': 0.0, 'norm_sq': 0.0}",
            "return {'delta': 0.0, 'first_norm_sq': 0.1, 'norm_sq': 0.0}",
        ): _UNREAD,
        (
            "return {'delta': 0.0, 'first_norm_sq': 0.0, 'norm_sq': 0.0}",
            "return {'delta': 0.0, 'first_norm_sq': 0.0, 'norm_sq': 0.1}",
        ): _UNREAD,
    },
    "optim/spider.py": {
        (
            "return (k.lr / k.norm_sq ** (self.beta / 2) if k.norm_sq else 0.0, 0.0)",
            "return (k.lr / k.norm_sq ** (self.beta / 2) if k.norm_sq else 0.1, 0.0)",
        ): "where the norm is 0, so is the direction",
    },
    "optim/smb.py": {
        (
            "predicted = sum((lr * square for lr, square in zip(rates, squares, strict=True)))",
            "predicted = sum((lr * square for square, lr in zip(rates, squares, strict=True)))",
        ): "a product is the same in either order",
        (
            "return [p + s for p, s in zip(params, step, strict=True)]",
            "return [p + s for s, p in zip(params, step, strict=True)]",
        ): "a sum is the same in either order",
    },
    "optim/tngd.py": {
        (
            "names = ('reading', 'exp_avg', 'exp_avg_sq') if self.adam else ('reading',)",
            "names = ('exp_avg', 'reading', 'exp_avg_sq') if self.adam else ('reading',)",
        ): "all of these start at zero; only the order of the dictionary differs",
    },
    "optim/storm.py": {
        (
            "return {'norm_sq_sum': 0.0, 'a_next': 1.0, 'a': 1.0, 'eta': 0.0}",
            "return {'norm_sq_sum': 0.0, 'a_next': 1.0, 'a': 1.2, 'eta': 0.0}",
        ): _UNREAD,
        (
            "return {'norm_sq_sum': 0.0, 'a_next': 1.0, 'a': 1.0, 'eta': 0.0}",
            "return {'norm_sq_sum': 0.0, 'a_next': 1.0, 'a': 1.0, 'eta': 0.1}",
        ): _UNREAD,
    },
}
