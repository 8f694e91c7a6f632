"""What the loss looks like around and between solutions, measured exactly."""

from thalweg.landscape.between import Line, Plane, lines, plane
from thalweg.landscape.curve import Curve, CurveProfile, connect, profile
from thalweg.landscape.directions import Direction, Normalisation, random_directions
from thalweg.landscape.entropy import LocalEntropy, local_entropy
from thalweg.landscape.flatness import Sharpness, epsilon_sharpness, sharpness
from thalweg.landscape.geometry import DegenerateError, spanning
from thalweg.landscape.layers import LayerBarrier, LayerBarriers, layer_barriers, layers_of
from thalweg.landscape.mix import Weights
from thalweg.landscape.neighbourhood import Slice, Surface, slice_along, surface
from thalweg.landscape.objective import POLICIES, Objective, Policy
from thalweg.landscape.pattern import Pattern, find_pattern

__all__ = [
    "POLICIES",
    "Curve",
    "CurveProfile",
    "DegenerateError",
    "Direction",
    "LayerBarrier",
    "LayerBarriers",
    "Line",
    "LocalEntropy",
    "Normalisation",
    "Objective",
    "Pattern",
    "Plane",
    "Policy",
    "Sharpness",
    "Slice",
    "Surface",
    "Weights",
    "connect",
    "epsilon_sharpness",
    "find_pattern",
    "layer_barriers",
    "layers_of",
    "lines",
    "local_entropy",
    "plane",
    "profile",
    "random_directions",
    "sharpness",
    "slice_along",
    "spanning",
    "surface",
]
