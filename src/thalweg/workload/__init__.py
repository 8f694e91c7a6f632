"""Workloads: what training algorithms are tried on.

`load` gives the built-in ones by name and the user's own by the path of a Python file::

    from thalweg import workload

    digits = workload.load("digits")
    workload.check(digits)

Data that packages hold are prepared once, in ``$THALWEG_CACHE`` or the user's cache folder. The
published data sets that `published` names are read from a folder of yours, named after a colon::

    workload.load("fastmri-unet:/data/fastmri")
"""

from thalweg.workload.batches import Batches, in_order
from thalweg.workload.catalogue import describe, load, names, published
from thalweg.workload.check import check
from thalweg.workload.distillation import Distillation
from thalweg.workload.own import write_template
from thalweg.workload.workload import Workload

__all__ = [
    "Batches",
    "Distillation",
    "Workload",
    "check",
    "describe",
    "in_order",
    "load",
    "names",
    "published",
    "write_template",
]
