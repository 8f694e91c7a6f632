"""The page of a race: one self-contained HTML file with interactive plots."""

from thalweg.report.looking import write_landscape
from thalweg.report.page import write_report

__all__ = ["write_landscape", "write_report"]
