"""The golden numbers: what the authors' programs print, to the printed digits."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Golden:
    """Where a rule stands on a problem after some numbers of calls."""

    rule: str
    problem: str
    hyper: dict[str, Any]
    points: dict[int, list[float]]
    tolerance: float = 1e-9  # the numbers have ten digits
    extra: dict[str, dict[int, Any]] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return an id for a test's name."""
        hyper = ",".join(f"{key}={value}" for key, value in self.hyper.items())
        return f"{self.rule}-{self.problem}-{hyper}".replace(" ", "")


_WARM = {"alpha": 8.0, "beta3_warmup": 10, "alpha_warmup": 10, "weight_decay": 0.1}

GOLDEN = [
    Golden(
        "amsgrad",
        "P3",
        {"lr": 0.1},
        {
            2: [0.8067820383, -1.873366297, 0.4623918684],
            5: [0.6951678189, -1.87644097, 0.5315052545],
        },
    ),
    Golden(
        "adam",
        "P3",
        {"lr": 0.1},
        {
            2: [0.8067820383, -1.873366297, 0.4623918684],
            5: [0.6951678189, -1.87644097, 0.531515845],
        },
    ),
    Golden(
        "adabelief",
        "P3",
        {"lr": 0.1, "rectify": False, "eps": 1e-8},
        {
            1: [0.888889576, -1.888889061, 0.3888916347],
            2: [0.7813689029, -1.860519046, 0.4571093333],
            5: [0.656333325, -1.863434984, 0.5308394725],
        },
    ),
    Golden(
        "adabelief",
        "P3",
        {"lr": 0.1},
        {
            1: [0.9, -1.8, 0.45],
            2: [0.8263157895, -1.757894737, 0.5842105263],
            5: [0.7578081126, -1.766254362, 0.6976067862],
        },
    ),
    Golden(
        "ademamix",
        "P3",
        {"lr": 0.1, "alpha": 2.0},
        {
            1: [0.899980001, -1.899980001, 0.399980002],
            2: [0.8067240878, -1.873333648, 0.4623951129],
            5: [0.6950092991, -1.876403937, 0.5315784323],
        },
    ),
    Golden(
        "ademamix",
        "P3",
        {"lr": 0.1, **_WARM},
        {
            1: [0.8899207218, -1.879920721, 0.3949207228],
            5: [0.6525981032, -1.782584201, 0.5087837138],
        },
        # The program behind these adds 1e-8 to the betas inside the logarithms of the warm-up.
        tolerance=3e-7,
    ),
    Golden(
        "schedule-free-adamw",
        "P3",
        {"lr": 0.1, "weight_decay": 0.01},
        {
            1: [0.899000001, -1.898, 0.399500002],
            2: [0.8637152756, -1.931746376, 0.4759855715],
            5: [0.8979409784, -1.988089741, 0.4831298481],
        },
        extra={"x": {5: [0.8874160368, -1.97907728, 0.4812049363]}},
    ),
    Golden(
        "prodigy",
        "P1",
        {},
        {
            1: [0.9999968377, -1.999996838, 0.4999968377],
            5: [0.9999018893, -1.999901889, 0.4999018889],
            20: [-0.433155372, -0.9861181393, -0.4723692534],
        },
        extra={"d": {20: 0.3854070075}},
    ),
    Golden(
        "adafactor",
        "P2",
        {"lr": 0.1},
        {
            1: [
                *(0.9002178679, -1.865924361, 0.4779305655),
                *(0.1800106968, 0.7910429062, -1.023074799),
            ],
            5: [
                *(0.5742013815, -1.458921042, 0.3990941211),
                *(0.01269751354, 0.7559836296, -0.4924871033),
            ],
        },
    ),
    Golden(
        "lion",
        "P3",
        {"lr": 0.01, "weight_decay": 0.1},
        {
            1: [0.989, -1.988, 0.4895],
            2: [0.978011, -1.996012, 0.4990105],
            5: [0.9850699101, -2.00003994, 0.507524955],
        },
    ),
    Golden(
        "soap",
        "P4",
        {"lr": 0.1, "weight_decay": 0.01, "precondition_frequency": 2},
        {
            1: [1.0, -2.0, 0.5, 0.3, 0.8, -1.2],
            2: [0.9616818, -1.9489293, 0.6833649, 0.4366607, 0.8543815, -1.2204775],
            3: [0.9174984, -1.9652462, 0.7347484, 0.4163776, 0.7496072, -1.2796770],
            5: [0.9151986, -2.0823318, 0.8031177, 0.4518515, 0.6867263, -1.3220756],
            7: [0.8784200, -2.1079405, 0.8809011, 0.4265921, 0.6604450, -1.2694209],
        },
        tolerance=1e-6,  # the authors' eigenvectors are float32
    ),
    Golden(
        "soap",
        "P4",
        {"lr": 0.1, "weight_decay": 0.0, "precondition_frequency": 1},
        {
            5: [0.9512534, -2.0718029, 0.8133000, 0.4579533, 0.6900426, -1.3163036],
            7: [0.9197174, -2.0995684, 0.8917815, 0.4375211, 0.6646661, -1.2678101],
        },
        tolerance=1e-6,
    ),
    Golden(
        "muon",
        "P2",
        {"lr": 0.1, "weight_decay": 0.0},
        {1: [0.98671875, -1.890625, 0.4833984375, 0.28984375, 0.79140625, -1.128515625]},
        tolerance=1e-2,  # the iteration ran in bfloat16
    ),
]

# Five Newton-Schulz steps take a singular value s (of a matrix of norm 1) to this.
NEWTON_SCHULZ = {
    0.001: 0.470544,
    0.01: 0.698917,
    0.05: 0.758120,
    0.1: 0.712120,
    0.2: 0.746769,
    0.3: 1.079592,
    0.5: 0.765439,
    0.7: 1.120323,
    0.9: 0.682011,
    1.0: 0.696436,
}
