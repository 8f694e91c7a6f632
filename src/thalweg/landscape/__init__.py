"""What the loss looks like around and between solutions, measured exactly."""

from thalweg.landscape.geometry import DegenerateError, spanning
from thalweg.landscape.mix import Weights
from thalweg.landscape.objective import POLICIES, Objective, Policy
from thalweg.landscape.sharpness import Sharpness, epsilon_sharpness, sharpness
from thalweg.landscape.surface import Line, Plane, lines, plane

__all__ = [
    "POLICIES",
    "DegenerateError",
    "Line",
    "Objective",
    "Plane",
    "Policy",
    "Sharpness",
    "Weights",
    "epsilon_sharpness",
    "lines",
    "plane",
    "sharpness",
    "spanning",
]
