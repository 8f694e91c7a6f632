"""Models that differ by the order of their units: their symmetries, and how to match them.

Example::

    from thalweg.merge.permutations import align, preactivations, repair

    structure, matching = align(objective, one, other)  # objective: the loss on training data
    moved = structure.apply(other, matching.permutations)  # the same function, nearer to one
"""

from thalweg.merge.permutations.activation_matching import activation_matching
from thalweg.merge.permutations.discover import discover
from thalweg.merge.permutations.matching import Matching, distance, moved_share
from thalweg.merge.permutations.merges import GitRebasin, OTFusion, Repaired
from thalweg.merge.permutations.plans import Transport, TransportSettings
from thalweg.merge.permutations.rebasin import align
from thalweg.merge.permutations.repair import preactivations, repair
from thalweg.merge.permutations.straight_through import straight_through
from thalweg.merge.permutations.structure import Axis, Group, Structure
from thalweg.merge.permutations.transport import fuse, transport
from thalweg.merge.permutations.verification import verify
from thalweg.merge.permutations.weight_matching import merge_many, weight_matching

__all__ = [
    "Axis",
    "GitRebasin",
    "Group",
    "Matching",
    "OTFusion",
    "Repaired",
    "Structure",
    "Transport",
    "TransportSettings",
    "activation_matching",
    "align",
    "discover",
    "distance",
    "fuse",
    "merge_many",
    "moved_share",
    "preactivations",
    "repair",
    "straight_through",
    "transport",
    "verify",
    "weight_matching",
]
