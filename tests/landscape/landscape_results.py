"""One result of every kind."""

import torch
from torch import nn

from thalweg.landscape import (
    Curve,
    CurveProfile,
    InMemory,
    LayerBarriers,
    Line,
    Objective,
    Plane,
    Sharpness,
    Slice,
    Surface,
    layer_barriers,
    lines,
    plane,
    profile,
    sharpness,
    slice_along,
    surface,
    trajectory_frame,
)
from thalweg.landscape.curvature import (
    Eigenpairs,
    Estimate,
    GradientStatistics,
    Hessian,
    SpectralDensity,
    eigenpairs,
    gradient_statistics,
    spectral_density,
    trace,
)
from thalweg.landscape.frame import Frame


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def everything():
    model = net()
    random = torch.Generator().manual_seed(0)
    batch = torch.randn(8, 3, generator=random), torch.randint(2, (8,), generator=random)
    objective = Objective(model, lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1]), [batch])
    right = Objective(model, lambda m, b: (m(b[0]).argmax(1) == b[1]).double().mean(), [batch])
    also = {"test loss": objective, "train accuracy": right, "test accuracy": right}
    points = {name: net(seed).state_dict() for seed, name in enumerate("abc")}
    pair = {name: points[name] for name in "ab"}
    curve = Curve("bezier", tuple(points.values()))
    walk = InMemory()
    for step, weights in enumerate(points.values()):
        walk.add(step, weights)
    hessian = Hessian(objective)
    frame = trajectory_frame(model, walk)
    return {
        Line: lines(objective, pair, steps=3, also=also)[0],
        Plane: plane(objective, points, size=3, also={"test loss": objective}),
        Slice: slice_along(objective, steps=2, also=also),
        Surface: surface(objective, frame, steps=2, marks=pair, trails={"walk": walk}),
        Frame: frame,
        Curve: curve,
        CurveProfile: profile(objective, curve, points=3, also=also),
        LayerBarriers: layer_barriers(objective, pair, also=also),
        Sharpness: sharpness(objective, 0.1),
        Eigenpairs: eigenpairs(hessian, 2),
        Estimate: trace(hessian, 4),
        SpectralDensity: spectral_density(hessian, probes=2, steps=3),
        GradientStatistics: gradient_statistics(objective),
    }
