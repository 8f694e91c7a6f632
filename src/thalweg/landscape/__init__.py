"""What the loss looks like around and between solutions, measured exactly."""

from thalweg.landscape.between import Line, Plane, lines, plane
from thalweg.landscape.curve import Curve, connect
from thalweg.landscape.curve_profile import CurveProfile, profile
from thalweg.landscape.directions import Direction, Normalisation, random_directions
from thalweg.landscape.entropy import LocalEntropy, local_entropy
from thalweg.landscape.figures.together import side_by_side
from thalweg.landscape.flatness import Sharpness, epsilon_sharpness, sharpness
from thalweg.landscape.frame import Frame, given_frame, hessian_frame, random_frame
from thalweg.landscape.geometry import DegenerateError, spanning
from thalweg.landscape.grid import Grid, Mark, Trail
from thalweg.landscape.layers import LayerBarrier, LayerBarriers, layer_barriers, layers_of
from thalweg.landscape.mix import Weights
from thalweg.landscape.neighbourhood import Slice, Surface, slice_along, surface
from thalweg.landscape.objective import Objective
from thalweg.landscape.pattern import Pattern, find_pattern
from thalweg.landscape.policy import POLICIES, Policy
from thalweg.landscape.results import load
from thalweg.landscape.trajectory import (
    InFolder,
    InMemory,
    Trajectory,
    project_trajectory,
    trajectory_frame,
)

__all__ = [
    "POLICIES",
    "Curve",
    "CurveProfile",
    "DegenerateError",
    "Direction",
    "Frame",
    "Grid",
    "InFolder",
    "InMemory",
    "LayerBarrier",
    "LayerBarriers",
    "Line",
    "LocalEntropy",
    "Mark",
    "Normalisation",
    "Objective",
    "Pattern",
    "Plane",
    "Policy",
    "Sharpness",
    "Slice",
    "Surface",
    "Trail",
    "Trajectory",
    "Weights",
    "connect",
    "epsilon_sharpness",
    "find_pattern",
    "given_frame",
    "hessian_frame",
    "layer_barriers",
    "layers_of",
    "lines",
    "load",
    "local_entropy",
    "plane",
    "profile",
    "project_trajectory",
    "random_directions",
    "random_frame",
    "sharpness",
    "side_by_side",
    "slice_along",
    "spanning",
    "surface",
    "trajectory_frame",
]
