"""Equivalent mutants of the rules that other libraries have."""

_ORDER = "all of these start at zero; only the order of the dictionary differs"
_SERIES = "the terms from 2^-53 / 53 on are lost in rounding; one more or less changes nothing"
_WHOLE = (
    "does nothing to a whole tensor; of a sharded one it keeps a plain number as state, where a "
    "number spread over processes would do as well"
)

_TERMS = (
    "for n in range(1, {}): "
    "ratio = math.expm1(n * t * log_q) / math.expm1(n * log_q) if log_q else t "
    "total += 0.5 ** n / n * math.exp(n * log_q) * ratio"
)

_HALVINGS = "HALVINGS = {0.5: 0, 0.25: 1, 0.125: 2, 0.0625: 3}"

EQUIVALENTS = {
    "optim/padam.py": {
        (_HALVINGS, _HALVINGS.replace(before, after)): "the same power by a logarithm, slower"
        for before, after in (
            ("0.5", "0.6"),
            ("0.25", "0.3"),
            ("0.125", "0.15"),
            ("0.0625", "0.075"),
        )
    }
    | {
        (
            "partial: float = field(default=0.25, metadata={'structural': True})",
            "partial: float = field(metadata={'structural': True})",
        ): "no such class can be made: Python refuses it on import",
    },
    "optim/nadam.py": {
        (_TERMS.format(54), _TERMS.format(55)): _SERIES,
        (_TERMS.format(54), _TERMS.format(53)): _SERIES,
    },
    "optim/adan.py": {
        (
            "names = ('exp_avg', 'exp_avg_diff', 'exp_avg_sq', 'previous_grad')",
            "names = ('exp_avg_diff', 'exp_avg', 'exp_avg_sq', 'previous_grad')",
        ): _ORDER,
    },
    "optim/pid.py": {
        (
            "names = ('I_buffer', 'D_buffer', 'grad_buffer')",
            "names = ('D_buffer', 'I_buffer', 'grad_buffer')",
        ): _ORDER,
    },
    "optim/nero.py": {
        ("size = gathered(norms.mean())", "size = norms.mean()"): _WHOLE,
        (
            "return p / torch.where(norms == 0, 1.0, norms)",
            "return p / torch.where(norms == 0, 1.2, norms)",
        ): "divides zeros",
    },
}
