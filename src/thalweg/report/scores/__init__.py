"""The page of several races, or of anyone's runs, scored together."""

from thalweg.report.scores.page import write_score_report

__all__ = ["write_score_report"]
