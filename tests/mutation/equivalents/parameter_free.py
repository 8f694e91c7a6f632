"""Mutants of parameter-free, averaged and accelerated rules that no test can tell from the rule."""

_ORDER = "all of these start at zero; only the order of the dictionary differs"
_ALIKE = "all of these start at the parameter; only the order of the dictionary differs"
_UNREAD = "`advance` sets it before anything reads it"
_STILL = "until the first gradient has set it, it multiplies zero"
_RESTING = "where the learning rate is 0 it only keeps 0 / 0 away, which any positive number does"
_ALONG = "the root is 0 while all gradients were, and the step goes along the gradient"
_NUMBERS = "return {{'weight': start, 'carry': {}, 'push': {}}}"
_SEQUENCES = "return {{'alpha': {}, 'alpha_next': _next(1.0), 'speed_sq': {}, 'since_restart': {}}}"

EQUIVALENTS: dict[str, dict[tuple[str, str], str]] = {
    "engine/d_adaptation.py": {
        (
            "return {**super().shared(), 'k': 1, 'k_last': 1}",
            "return {**super().shared(), 'k': 1, 'k_last': 2}",
        ): _STILL,
    },
    "engine/schedule_free.py": {
        (
            "return {'k': 0, 'lr_max': 0.0, 'weight_sum': 0.0, 'average_weight': 1.0}",
            "return {'k': 0, 'lr_max': 0.0, 'weight_sum': 0.0, 'average_weight': 1.2}",
        ): _UNREAD,
        (
            "shared['average_weight'] = weight / total if total > 0 else 0.0",
            "shared['average_weight'] = weight / total if total > 0 else 0.1",
        ): "while the weights sum to 0 the learning rate was 0, and x, y and z are the start",
    },
    "optim/dadapt_adam.py": {
        ("eps = self.eps if moves else 1.0", "eps = self.eps if moves else 1.2"): _RESTING,
        (
            "return {name: torch.zeros_like(p) for name in ('exp_avg', 'exp_avg_sq', 's')}",
            "return {name: torch.zeros_like(p) for name in ('exp_avg_sq', 'exp_avg', 's')}",
        ): _ORDER,
    },
    "optim/dadapt_lion.py": {
        (
            "return {name: torch.zeros_like(p) for name in ('exp_avg', 's')}",
            "return {name: torch.zeros_like(p) for name in ('s', 'exp_avg')}",
        ): _ORDER,
    },
    "optim/dadapt_sgd.py": {
        (
            "return {'d': self.d0, 'numerator': 0.0, 'g0_norm': 0.0, 'scale': 0.0}",
            "return {'d': self.d0, 'numerator': 0.0, 'g0_norm': 0.0, 'scale': 0.1}",
        ): _STILL,
    },
    "optim/dog.py": {
        (
            "return {'k': 0, 'rbar': 0.0, 'grad_sum_sq': self.eps, 'eta': 0.0}",
            "return {'k': 0, 'rbar': 0.0, 'grad_sum_sq': self.eps, 'eta': 0.1}",
        ): _UNREAD,
        (
            "shared['eta'] = self.lr * shared['rbar'] / root if root != 0 else 0.0",
            "shared['eta'] = self.lr * shared['rbar'] / root if root != 0 else 0.1",
        ): _ALONG,
    },
    "optim/ldog.py": {
        (
            "if self.init_eta is not None and s.rbar == 0:",
            "if s.rbar == 0:",
        ): "without a given first step the distance is positive from the first step on",
        (
            "return {'eta': s.rbar / root if root != 0 else 0.0}",
            "return {'eta': s.rbar / root if root != 0 else 0.1}",
        ): _ALONG,
        (
            "return {'eta': self.init_eta / k.lr if k.lr > 0 else 0.0}",
            "return {'eta': self.init_eta / k.lr if k.lr > 0 else 0.1}",
        ): "the learning rate, then 0, multiplies it",
    },
    "optim/induced_metric.py": {
        (
            "return {'k': 0, 'slope_avg': 0.0, 'slope': 0.0}",
            "return {'k': 0, 'slope_avg': 0.0, 'slope': 0.1}",
        ): _UNREAD,
    },
    "optim/nonconvex_ag.py": {
        (
            "return {name: p.detach().clone() for name in ('x', 'before')}",
            "return {name: p.detach().clone() for name in ('before', 'x')}",
        ): _ALIKE,
        (_SEQUENCES.format("1.0", "0.0", 0), _SEQUENCES.format("1.2", "0.0", 0)): _UNREAD,
        (_SEQUENCES.format("1.0", "0.0", 0), _SEQUENCES.format("1.0", "0.1", 0)): (
            "it is compared with from the third step on, and `advance` has set it by then"
        ),
        (_SEQUENCES.format("1.0", "0.0", 0), _SEQUENCES.format("1.0", "0.0", 1)): (
            "the second step is no slower than the first, whose speed is 0, so that the third is "
            "the first that may begin again"
        ),
    },
    "optim/nesterov_interpolation.py": {
        (_NUMBERS.format("0.0", "0.0"), _NUMBERS.format(*after)): _UNREAD
        for after in (("0.1", "0.0"), ("0.0", "0.1"))
    },
    "optim/madgrad.py": {
        (
            "sums = {name: torch.zeros_like(p) for name in ('s', 'grad_sum_sq')}",
            "sums = {name: torch.zeros_like(p) for name in ('grad_sum_sq', 's')}",
        ): _ORDER,
    },
}
