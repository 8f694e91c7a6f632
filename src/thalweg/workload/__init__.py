"""Workloads: what training algorithms are tried on.

`load` gives the built-in ones by name and the user's own by the path of a Python file::

    from thalweg import workload

    digits = workload.load("digits")
    workload.check(digits)
"""

from thalweg.workload.batches import Batches, in_order
from thalweg.workload.catalogue import describe, load, names
from thalweg.workload.check import check
from thalweg.workload.own import write_template
from thalweg.workload.workload import Workload

__all__ = [
    "Batches",
    "Workload",
    "check",
    "describe",
    "in_order",
    "load",
    "names",
    "write_template",
]
