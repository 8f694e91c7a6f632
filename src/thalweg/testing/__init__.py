"""The conformance suites, public, so that third parties can run them on their own rules."""

from thalweg.testing.averages import AVERAGE_CHECKS, check_average
from thalweg.testing.conformance import CHECKS, check_rule, checks_of
from thalweg.testing.sharding import check_sharding

__all__ = [
    "AVERAGE_CHECKS",
    "CHECKS",
    "check_average",
    "check_rule",
    "check_sharding",
    "checks_of",
]
