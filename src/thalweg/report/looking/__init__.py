"""Pages of surfaces, lines, curves, barriers and densities."""

from thalweg.report.looking.page import write_landscape

__all__ = ["write_landscape"]
