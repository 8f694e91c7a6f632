"""Merges: many models become one.

Example::

    from thalweg.merge import merge

    weights = merge("ties(density=0.3)", [model_a, model_b], base=pretrained)
    pretrained.load_state_dict(weights)

`thalweg list merge` names the merges; `merge_files` merges checkpoints larger than memory.
"""

from thalweg.average import Ensemble
from thalweg.merge.branch_train_merge import (
    BranchTrainMerge,
    cached_prior,
    domain_posterior,
    mixture,
)
from thalweg.merge.catalogue import named
from thalweg.merge.dare import DARE
from thalweg.merge.diagnosis import Conflict, Diagnosis, diagnose
from thalweg.merge.diwa import DiWA
from thalweg.merge.files import merge_files, open_checkpoint, read_recipe
from thalweg.merge.fisher import FisherMerge
from thalweg.merge.gradient_matching import GradientMatching
from thalweg.merge.greedy import GreedySoup
from thalweg.merge.learned import LearnedSoup
from thalweg.merge.merging import merge
from thalweg.merge.method import Evidence, Measure, Merge, Piece
from thalweg.merge.model_stock import ModelStock
from thalweg.merge.prospects import Prospect, prospect
from thalweg.merge.regmean import RegMean
from thalweg.merge.slerp import SLERP
from thalweg.merge.soup import UniformSoup
from thalweg.merge.statistics import fisher_diagonal, input_grams
from thalweg.merge.task_arithmetic import TaskArithmetic
from thalweg.merge.ties import TIES
from thalweg.merge.vanishing_variance import VarianceCorrected
from thalweg.merge.warm import WARM

__all__ = [
    "DARE",
    "SLERP",
    "TIES",
    "WARM",
    "BranchTrainMerge",
    "Conflict",
    "DiWA",
    "Diagnosis",
    "Ensemble",
    "Evidence",
    "FisherMerge",
    "GradientMatching",
    "GreedySoup",
    "LearnedSoup",
    "Measure",
    "Merge",
    "ModelStock",
    "Piece",
    "Prospect",
    "RegMean",
    "TaskArithmetic",
    "UniformSoup",
    "VarianceCorrected",
    "cached_prior",
    "diagnose",
    "domain_posterior",
    "fisher_diagonal",
    "input_grams",
    "merge",
    "merge_files",
    "mixture",
    "named",
    "open_checkpoint",
    "prospect",
    "read_recipe",
]
