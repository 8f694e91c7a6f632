"""Second derivatives of an objective: products, eigenpairs, traces, densities, samples' scatter."""

from thalweg.landscape.curvature.condition import Condition, condition_number
from thalweg.landscape.curvature.density import SpectralDensity, spectral_density
from thalweg.landscape.curvature.diagonals import empirical_fisher_diagonal, gauss_newton_diagonal
from thalweg.landscape.curvature.eigenpairs import Eigenpairs, eigenpairs
from thalweg.landscape.curvature.kronecker import KroneckerFactored, kronecker_factored
from thalweg.landscape.curvature.lanczos import Lanczos
from thalweg.landscape.curvature.operators import (
    Curvature,
    EmpiricalFisher,
    Fisher,
    GaussNewton,
    Hessian,
)
from thalweg.landscape.curvature.samples import (
    GradientStatistics,
    gradient_statistics,
    sample_gradients,
)
from thalweg.landscape.curvature.trace import Estimate, diagonal, trace

__all__ = [
    "Condition",
    "Curvature",
    "Eigenpairs",
    "EmpiricalFisher",
    "Estimate",
    "Fisher",
    "GaussNewton",
    "GradientStatistics",
    "Hessian",
    "KroneckerFactored",
    "Lanczos",
    "SpectralDensity",
    "condition_number",
    "diagonal",
    "eigenpairs",
    "empirical_fisher_diagonal",
    "gauss_newton_diagonal",
    "gradient_statistics",
    "kronecker_factored",
    "sample_gradients",
    "spectral_density",
    "trace",
]
