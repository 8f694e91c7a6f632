"""Planes of trajectories and of the Hessian, and projections on them, against closed forms."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from thalweg import train
from thalweg.core.errors import UsageError
from thalweg.landscape import (
    DegenerateError,
    InFolder,
    InMemory,
    Objective,
    given_frame,
    hessian_frame,
    project_trajectory,
    surface,
    trajectory_frame,
)
from thalweg.landscape import trajectory as trajectory_module
from thalweg.workload import Workload


class Vector(nn.Module):
    def __init__(self, size: int = 6) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(size, dtype=torch.float64))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


CURVATURES = torch.tensor([9.0, -5.0, 4.0, 1.0, 0.5, 0.0], dtype=torch.float64)
TURN = torch.linalg.qr(draw(6, 6, seed=3))[0]
HESSIAN = TURN @ torch.diag(CURVATURES) @ TURN.T


def quadratic(model: Vector, batch: Tensor) -> Tensor:
    return 0.5 * model.w @ HESSIAN @ model.w


def objective() -> Objective:
    return Objective(Vector(), quadratic, [torch.zeros(1, 1)])


def recorded(points: Tensor, kind: type = InMemory, *where: object) -> InMemory | InFolder:
    trajectory = kind(*where)
    for step, w in enumerate(points):
        trajectory.add(10 * step, {"w": w})
    return trajectory


@pytest.fixture(params=["memory", "files"])
def store(request, tmp_path):
    if request.param == "memory":
        return lambda points: recorded(points)
    return lambda points: recorded(points, InFolder, tmp_path / "steps")


@pytest.mark.parametrize("chunk", [2**22, 8])
def test_the_plane_of_a_trajectory_is_that_of_its_singular_vectors(store, chunk, monkeypatch):
    monkeypatch.setattr(trajectory_module, "CHUNK", chunk)
    points = draw(7, 6, seed=1)
    frame = trajectory_frame(Vector(), store(points))
    centred = points - points.mean(0)
    _, s, v = torch.linalg.svd(centred, full_matrices=False)
    assert frame.explained == pytest.approx((s[:2] ** 2 / (s**2).sum()).tolist(), rel=1e-12)
    for direction, expected in zip(frame.directions, v, strict=False):
        (d,) = direction
        assert abs(float(d @ expected)) == pytest.approx(1, abs=1e-12)
        assert float((points[0] - points[-1]) @ d) >= 0
    assert torch.equal(frame.origin["w"], points[-1])
    trail = project_trajectory(frame, recorded(points))
    assert trail.steps == (0, 10, 20, 30, 40, 50, 60)
    assert (trail.x[-1], trail.y[-1], trail.residuals[-1]) == (0, 0, 0)
    for w, x, y, residual in zip(points, trail.x, trail.y, trail.residuals, strict=True):
        delta = w - points[-1]
        (one,), (other,) = frame.directions
        assert x == pytest.approx(float(delta @ one), abs=1e-12)
        assert y == pytest.approx(float(delta @ other), abs=1e-12)
        rest = delta - x * one - y * other
        assert residual == pytest.approx(float(rest.norm()), abs=1e-12)


def test_a_flat_trajectory_is_explained_whole_and_has_no_residual():
    u, v = TURN[:, 0], TURN[:, 1]
    angles = torch.linspace(0, 5, 9, dtype=torch.float64)
    points = draw(6, seed=2) + angles.cos()[:, None] * u + 0.5 * angles.sin()[:, None] * v
    frame = trajectory_frame(Vector(), recorded(points))
    assert sum(frame.explained) == pytest.approx(1, abs=1e-12)
    assert max(project_trajectory(frame, recorded(points)).residuals) < 1e-12
    off = frame.project({"w": points[0] + 3 * TURN[:, 4]}, "off")
    assert off.residual == pytest.approx(3, rel=1e-12)
    assert off.name == "off"


def test_the_surface_of_a_trajectory_is_exact_and_starts_at_its_end():
    points = draw(5, 6, seed=4)
    trajectory, subject = recorded(points), objective()
    before = copy.deepcopy(subject.module.state_dict())
    found = surface(
        subject,
        trajectory_frame(subject.module, trajectory),
        trails={"run": trajectory},
        marks={"first": {"w": points[0]}},
        steps=8,
    )
    assert torch.equal(before["w"], subject.module.state_dict()["w"])
    frame = trajectory_frame(subject.module, trajectory)
    (one,), (other,) = frame.directions
    for j, b in enumerate(found.y):
        for i, a in enumerate(found.x):
            w = points[-1] + a * one + b * other
            assert found.losses[j][i] == pytest.approx(float(0.5 * w @ HESSIAN @ w), rel=1e-12)
    assert found.kind == "trajectory"
    assert found.explained == frame.explained
    assert (found.marks[0].x, found.marks[0].y) == (found.trails[0].x[0], found.trails[0].y[0])
    assert found.x[0] < min(found.trails[0].x) < max(found.trails[0].x) < found.x[-1]
    assert 0.0 in found.x
    assert 0.0 in found.y


@pytest.mark.parametrize(("which", "values"), [("top", (9, 4)), ("magnitude", (9, -5))])
def test_the_hessian_plane_is_its_paraboloid(which, values):
    subject = objective()
    frame = hessian_frame(subject, which, tolerance=1e-9)
    assert frame.eigenvalues == pytest.approx(values, rel=1e-9)
    assert max(frame.residuals) < 1e-7
    found = surface(subject, frame, extent=2.0, steps=4)
    for j, b in enumerate(found.y):
        for i, a in enumerate(found.x):
            expected = 0.5 * (values[0] * a * a + values[1] * b * b)
            assert found.losses[j][i] == pytest.approx(expected, abs=1e-9)
    assert found.eigenvalues == frame.eigenvalues
    assert found.kind == "hessian"


def test_projections_on_skew_directions_are_least_squares():
    d = draw(2, 6, seed=5)
    frame = given_frame(objective(), [[d[0]], [d[1]]])
    w = draw(6, seed=6)
    mark = frame.project({"w": w})
    solution = torch.linalg.lstsq(d.T, w).solution
    assert (mark.x, mark.y) == pytest.approx(tuple(solution.tolist()), rel=1e-12)
    assert mark.residual == pytest.approx(float((w - d.T @ solution).norm()), rel=1e-12)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(3, 3)
        self.norm = nn.BatchNorm1d(3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.frozen = nn.Linear(3, 2).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.frozen(self.norm(self.second(self.first(x))))


def problem() -> Workload:
    x = draw(32, 3, seed=7).float()
    y = torch.randint(2, (32,), generator=torch.Generator().manual_seed(8))

    def loss(model, batch):
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    return Workload(
        name="tied",
        title="Tied",
        model=Tied,
        train=(x, y),
        validation=(x, y),
        loss=loss,
        metric=lambda model, batch: loss(model, batch),
        metric_name="loss",
        higher_is_better=False,
        batch_size=8,
        steps=12,
    )


@pytest.mark.parametrize("files", [False, True])
def test_a_run_is_recorded_with_tied_weights_and_statistics(files, tmp_path):
    folder = tmp_path / "steps" if files else None
    recorder = train.RecordTrajectory(5, folder=folder)
    result = train.fit(problem(), "sgd(lr=0.1)", callbacks=[recorder])
    assert result.weights.keys() >= {"first.weight", "norm.running_mean"}
    assert recorder.trajectory.steps == (0, 5, 10, 12)
    last = recorder.trajectory.weights(12)
    assert "second.weight" not in last
    assert all(torch.equal(x, result.weights[name]) for name, x in last.items())
    assert train.fit(problem(), "sgd(lr=0.1)").final_metric == result.final_metric
    model = Tied()
    subject = Objective(model, problem().loss, [problem().train])
    frame = trajectory_frame(model, recorder.trajectory)
    assert len(frame.directions[0]) == 5  # the tied weight once, the frozen ones not
    found = surface(
        subject, frame, trails={"run": recorder.trajectory}, steps=2, batch_norm="frozen"
    )
    model.load_state_dict(result.weights)
    assert found.losses[found.y.index(0)][found.x.index(0)] == subject.value()
    if files:
        with pytest.raises(UsageError, match="another run"):
            train.fit(problem(), "sgd(lr=0.1)", callbacks=[recorder])


def test_steps_can_be_named():
    recorder = train.RecordTrajectory(at=[3, 4])
    train.fit(problem(), "sgd(lr=0.1)", callbacks=[recorder], steps=6)
    assert recorder.trajectory.steps == (0, 3, 4, 6)


def test_train_test_and_error_lie_side_by_side():
    model = nn.Linear(3, 2)
    x, y = problem().train

    def cross_entropy(model, batch):
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    def error(model, batch):
        return (model(batch[0]).argmax(1) != batch[1]).float().mean()

    subject = Objective(model, cross_entropy, [(x[:20], y[:20])])
    test = Objective(model, cross_entropy, [(x[20:], y[20:])])
    also = {"test loss": test, "test error": Objective(model, error, [(x[20:], y[20:])])}
    found = surface(subject, steps=4, also=also)
    alone = surface(test, steps=4)
    assert found.also["test loss"] == alone.losses
    assert found.losses == surface(subject, steps=4).losses
    assert found.also["test error"][2][2] == also["test error"].value()
    other = Objective(nn.Linear(3, 2), cross_entropy, [(x, y)])
    with pytest.raises(UsageError, match="another model"):
        surface(subject, also={"test loss": other})


def test_impossible_planes_are_refused(tmp_path):
    points = draw(5, 6, seed=9)
    line = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None] * points[0] + points[1]
    with pytest.raises(DegenerateError, match="one line"):
        trajectory_frame(Vector(), recorded(line))
    with pytest.raises(DegenerateError, match="three recorded"):
        trajectory_frame(Vector(), recorded(points[:2]))
    with pytest.raises(DegenerateError, match="has 0"):
        trajectory_frame(Vector(), InFolder(tmp_path / "none"))
    with pytest.raises(UsageError, match="shape"):
        trajectory_frame(Vector(5), recorded(points))
    points[2, 3] = math.nan
    with pytest.raises(UsageError, match="step 20 are not all finite"):
        trajectory_frame(Vector(), recorded(points))
    frame = hessian_frame(objective())
    with pytest.raises(UsageError, match="not finite"):
        frame.project({"w": points[2]}, "bad")
    with pytest.raises(UsageError, match="lack"):
        frame.project({}, "empty")
    with pytest.raises(UsageError, match="did not converge"):
        hessian_frame(objective(), tolerance=1e-12, max_products=2)
    with pytest.raises(UsageError, match="one"):
        hessian_frame(Objective(Vector(1), lambda m, b: m.w.square().sum(), [torch.zeros(1, 1)]))
    (tmp_path / "step-0000000003.safetensors").write_text("x")
    with pytest.raises(UsageError, match="cannot read"):
        InFolder(tmp_path).weights(3)
