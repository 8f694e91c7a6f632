"""Pages of surfaces, lines, curves, barriers, spectra, sharpness and samples' gradients."""

from thalweg.report.looking.page import write_landscape

__all__ = ["write_landscape"]
