"""Problems whose optima are known."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import optimize

from thalweg import train, workload
from thalweg.core.errors import UsageError
from thalweg.workload.deep_linear import deep_linear
from thalweg.workload.imbalanced_classes import imbalanced_classes
from thalweg.workload.logistic_regression import Problem, logistic_regression
from thalweg.workload.matrix_factorisation import matrix_factorisation
from thalweg.workload.modular_addition import modular_addition
from thalweg.workload.noisy_quadratic import noisy_quadratic
from thalweg.workload.quadratic import quadratic
from thalweg.workload.rosenbrock import rosenbrock
from thalweg.workload.saddle import saddle


def metric(found, model):
    with torch.no_grad():
        return float(found.metric(model, found.validation).double().mean())


def model_of(found, seed=0):
    torch.manual_seed(seed)
    return found.model()


# The metric that is reached, and one that the start is worse than.
SOLVED = [
    ("quadratic", "adamw(lr=0.1, weight_decay=0) + cosine", 0.01, 0.9),
    ("noisy-quadratic", "sgd(lr=0.3) + cosine", 0.12, 0.9),
    ("rosenbrock", "lbfgs(lr=1.0)", 1e-5, 2.1),
    ("saddle", "sgd(lr=0.1)", 1e-6, 1.2),
    ("logistic-regression", "adamw(lr=0.03, weight_decay=0) + cosine", 1e-3, 0.1),
    ("matrix-factorisation", "sgd(lr=1.0, momentum=0.9) + cosine", 1e-3, 0.9),
    ("deep-linear", "sgd(lr=0.1, momentum=0.9) + cosine", 1e-4, 0.7),
    ("modular-addition", "adamw(lr=1e-2, weight_decay=1.0, betas=(0.9, 0.98))", 0.95, 0.1),
    ("imbalanced-classes", "adamw(lr=0.03) + cosine", 0.99, 0.1),
]


@pytest.mark.parametrize(("name", "recipe", "reached", "start"), SOLVED)
def test_solved_by_a_good_recipe(name, recipe, reached, start):
    found = workload.load(name)
    steps = 700 if name == "modular-addition" else None
    assert not found.reached(metric(found, model_of(found)), start)
    result = train.fit(found, recipe, steps=steps)
    assert result.status == "ok"
    assert found.reached(result.final_metric, reached)


def test_quadratic_with_a_given_spectrum():
    values = [3.0, 0.5, 0.01]
    found = quadratic(spectrum=values, rotated=True, dtype=torch.float64)
    eigenvalues = torch.linalg.eigvalsh(model_of(found).matrix)
    assert torch.allclose(eigenvalues, torch.tensor(sorted(values), dtype=torch.float64))
    for wrong in ([], [1.0, 0.0], [1.0, float("inf")], [[1.0]]):
        with pytest.raises(UsageError, match="finite eigenvalues above 0"):
            quadratic(spectrum=wrong)


@pytest.mark.parametrize("rotated", [False, True])
def test_curved_noise_has_the_covariance_of_the_matrix(rotated):
    found = quadratic(
        spectrum=[2.0, 0.5], noise=3.0, curved_noise=True, rotated=rotated, dtype=torch.float64
    )
    matrix = model_of(found).matrix
    matrix = matrix if rotated else torch.diag(matrix)
    samples = found.train
    covariance = samples.T @ samples / len(samples)
    assert torch.allclose(covariance, 9 * matrix, atol=2.5)
    assert torch.allclose(samples.mean(0), torch.zeros(2, dtype=torch.float64), atol=1e-12)


def test_noisy_quadratic_follows_the_recursion():
    # Equal eigenvalues, so that the mean over coordinates stands for the expectation.
    height, rate, batch, steps = 0.5, 0.4, 16, 25
    found = quadratic(spectrum=[height] * 2000, noise=1.0, curved_noise=True, dtype=torch.float64)
    model = model_of(found)
    expected = float(model.x.detach().square().mean())
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    draw = torch.Generator().manual_seed(0)
    for _ in range(steps):
        index = torch.randint(0, len(found.train), (batch,), generator=draw)
        optimizer.zero_grad()
        found.loss(model, found.train[index]).backward()
        optimizer.step()
        expected = (1 - rate * height) ** 2 * expected + rate**2 * height / batch
    assert float(model.x.detach().square().mean()) == pytest.approx(expected, rel=0.1)
    spectrum = model_of(noisy_quadratic(dimension=5)).matrix
    assert torch.allclose(spectrum, 1 / torch.arange(1.0, 6.0))


@pytest.mark.parametrize("dimension", [2, 3, 7])
def test_rosenbrock_against_scipy(dimension):
    found = rosenbrock(dimension, dtype=torch.float64)
    model = model_of(found)
    with torch.no_grad():
        model.x.copy_(torch.linspace(-1, 2, dimension, dtype=torch.float64))
    point = model.x.detach().numpy().copy()
    model().backward()
    assert float(model().detach()) == pytest.approx(optimize.rosen(point), rel=1e-12)
    assert np.allclose(model.x.grad.numpy(), optimize.rosen_der(point), rtol=1e-12)
    assert metric(found, model) == pytest.approx(np.linalg.norm(point - 1), rel=1e-12)
    with torch.no_grad():
        model.x.fill_(1)
    assert metric(found, model) == 0


def test_saddle_eigenvalues_and_minima():
    found = saddle(down=2, up=3)
    model = model_of(found).double()

    def height(point):
        return torch.func.functional_call(model, {"x": point}, ())

    zero = torch.zeros(5, dtype=torch.float64)
    assert float(height(zero)) == 0.5
    assert torch.func.grad(height)(zero).tolist() == [0] * 5
    curvature = torch.func.hessian(height)(zero)
    assert torch.linalg.eigvalsh(curvature).tolist() == [-1, -1, 1, 1, 1]
    minimum = torch.tensor([1.0, -1, 0, 0, 0], dtype=torch.float64)
    assert float(height(minimum)) == 0
    assert torch.linalg.eigvalsh(torch.func.hessian(height)(minimum)).min() > 0
    assert 0 < float(model.x.detach()[:2].abs().max()) < 1e-3


def test_logistic_regression_is_certified():
    torch.manual_seed(0)
    features = torch.randn(60, 4, dtype=torch.float64)
    labels = (torch.rand(60) < 0.4).double()
    problem = Problem(features, labels, decay=0.01)
    assert problem.certificate < 1e-20

    def value(w):
        margins = np.where(labels.numpy() == 1, 1, -1) * (features.numpy() @ w)
        return np.logaddexp(0, -margins).mean() + 0.005 * w @ w

    found = optimize.minimize(value, np.zeros(4), method="BFGS", options={"gtol": 1e-9})
    assert np.allclose(problem.optimum.numpy(), found.x, atol=1e-5)
    assert problem.minimum == pytest.approx(value(found.x), abs=1e-12)
    # The certificate holds anywhere: it is never less than the true gap.
    for _ in range(20):
        w = torch.randn(4, dtype=torch.float64)
        gap = float(problem(w)) - problem.minimum
        assert 0 < gap <= float(problem.gradient(w).square().sum()) / 0.02


def test_logistic_regression_metric_is_zero_at_the_optimum():
    found = logistic_regression(samples=200, dimension=5)
    model = model_of(found)
    assert metric(found, model) > 0.1
    features, labels = (side.double() for side in found.train)
    problem = Problem(features, labels, decay=1e-3)
    with torch.no_grad():
        model.w.copy_(problem.optimum)
    assert 0 <= metric(found, model) < 1e-10
    everything = float(found.loss(model, found.train).detach())
    assert everything == pytest.approx(problem.minimum, rel=1e-5)


@pytest.mark.parametrize("rank", [1, 3, 9])
def test_matrix_factorisation_optimum(rank):
    found = matrix_factorisation(rows=7, columns=6, rank=rank)
    places, values = found.train
    assert places.tolist() == [[i, j] for i in range(7) for j in range(6)]
    left, spectrum, right = torch.linalg.svd(values.view(7, 6), full_matrices=False)
    assert torch.allclose(spectrum / spectrum[0], 1 / torch.arange(1.0, 7.0), atol=1e-5)
    assert float(values.square().mean()) == pytest.approx(1, rel=1e-5)
    model = model_of(found)
    before = metric(found, model)
    kept = min(rank, 6)
    with torch.no_grad():
        model.left.zero_()
        model.right.zero_()
        model.left[:, :kept] = left[:, :kept] * spectrum[:kept]
        model.right[:kept] = right[:kept]
    assert before > 0.1
    assert metric(found, model) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("width", [3, 6, 10])
def test_deep_linear_optimum(width):
    found = deep_linear(layers=3, width=width, size=8, rank=6)
    inputs, targets = (side.double() for side in found.train)
    assert torch.allclose(inputs.T @ inputs / len(inputs), torch.eye(8).double(), atol=1e-5)
    wanted = torch.linalg.lstsq(inputs, targets).solution.T
    left, spectrum, right = torch.linalg.svd(wanted)
    assert torch.allclose(spectrum[:6], 1 / torch.arange(1.0, 7.0).double(), atol=1e-5)
    model = model_of(found)
    assert metric(found, model) > 0.1
    kept = min(width, 8)
    with torch.no_grad():
        for layer in model:
            layer.weight.zero_()
            layer.weight.fill_diagonal_(1)
        model[0].weight[:kept] = right[:kept]
        model[2].weight[:, :kept] = left[:, :kept] * spectrum[:kept]
    assert metric(found, model) == pytest.approx(0, abs=1e-6)


def test_modular_addition_is_every_pair_once():
    found = modular_addition(modulus=7, share=0.4)
    (train_pairs, train_sums), (other_pairs, other_sums) = found.train, found.validation
    pairs = torch.cat([train_pairs, other_pairs]).tolist()
    assert sorted(pairs) == [[a, b] for a in range(7) for b in range(7)]
    assert len(train_pairs) == 20
    sums = torch.cat([train_sums, other_sums]).tolist()
    assert sums == [(a + b) % 7 for a, b in pairs]

    class Oracle(torch.nn.Module):
        def forward(self, pairs):
            return torch.eye(7)[pairs.sum(1) % 7]

    assert metric(found, Oracle()) == 1


def test_imbalanced_classes_have_a_heavy_tail_and_a_known_answer():
    found = imbalanced_classes(classes=20, samples=2000)
    (_, labels), (features, held_out) = found.train, found.validation
    counts = torch.bincount(labels)
    assert counts[0] / counts[9] == pytest.approx(10, rel=0.1)
    assert torch.bincount(held_out).tolist() == [10] * 20
    centres = torch.stack([found.train[0][labels == k].mean(0) for k in range(20)])
    nearest = torch.cdist(features, centres).argmin(1)
    assert float((nearest == held_out).float().mean()) > 0.98
    model = model_of(found)
    with torch.no_grad():
        model.weight.copy_(10 * centres)
        model.bias.copy_(-5 * centres.square().sum(1))
    assert metric(found, model) == float((nearest == held_out).float().mean())


@pytest.mark.parametrize(
    ("build", "wrong"),
    [
        (rosenbrock, {"dimension": 1}),
        (saddle, {"down": 0}),
        (saddle, {"distance": 0.0}),
        (logistic_regression, {"samples": 10}),
        (logistic_regression, {"decay": 0.0}),
        (matrix_factorisation, {"rank": 0}),
        (deep_linear, {"layers": 1}),
        (deep_linear, {"rank": 17}),
        (modular_addition, {"modulus": 1}),
        (modular_addition, {"share": 1.0}),
        (imbalanced_classes, {"classes": 1}),
        (imbalanced_classes, {"samples": 10}),
        (noisy_quadratic, {"dimension": 0}),
        (noisy_quadratic, {"noise": -1.0}),
    ],
)
def test_impossible_numbers_are_refused(build, wrong):
    with pytest.raises(UsageError, match=r"need|above 0"):
        build(**wrong)


def test_the_data_are_the_same_each_time():
    for build in (logistic_regression, matrix_factorisation, deep_linear, imbalanced_classes):
        one, other = build(), build()
        assert all(torch.equal(a, b) for a, b in zip(one.train, other.train, strict=True))
        assert dataclasses.asdict(one)["title"] == other.title
