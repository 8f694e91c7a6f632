"""All merges, by name."""

from thalweg.core.named import build
from thalweg.core.registry import Part, register
from thalweg.core.space import Linear
from thalweg.merge.branch_train_merge import BranchTrainMerge
from thalweg.merge.dare import DARE
from thalweg.merge.diwa import DiWA
from thalweg.merge.fisher import FisherMerge
from thalweg.merge.gradient_matching import GradientMatching
from thalweg.merge.greedy import GreedySoup
from thalweg.merge.learned import LearnedSoup
from thalweg.merge.method import Merge
from thalweg.merge.model_stock import ModelStock
from thalweg.merge.permutations.merges import GitRebasin, OTFusion, Repaired
from thalweg.merge.regmean import RegMean
from thalweg.merge.slerp import SLERP
from thalweg.merge.soup import UniformSoup
from thalweg.merge.task_arithmetic import TaskArithmetic
from thalweg.merge.ties import TIES
from thalweg.merge.vanishing_variance import VarianceCorrected
from thalweg.merge.warm import WARM

_SOUPS = "Wortsman et al., 2022, arXiv:2203.05482"

for _slug, _name, _reference, _factory, _space in (
    ("model-soups", "Model soup, uniform", _SOUPS, UniformSoup, {}),
    ("greedy-soup", "Model soup, greedy", _SOUPS, GreedySoup, {}),
    ("learned-soup", "Model soup, learned", _SOUPS, LearnedSoup, {}),
    ("diwa", "DiWA", "Rame et al., 2022, arXiv:2205.09739", DiWA, {}),
    ("warm", "WARM", "Rame et al., 2024, arXiv:2401.12187", WARM, {}),
    ("btm", "Branch-Train-Merge", "Li et al., 2022, arXiv:2208.03306", BranchTrainMerge, {}),
    ("fisher-merge", "Fisher-weighted", "Matena & Raffel, 2022, arXiv:2111.09832", FisherMerge, {}),
    (
        "gradient-matching-merge",
        "Uncertainty-based gradient matching",
        "Daheim et al., 2024, arXiv:2310.12808",
        GradientMatching,
        {},
    ),
    ("regmean", "RegMean", "Jin et al., 2023, arXiv:2212.09849", RegMean, {}),
    (
        "task-arithmetic",
        "Task arithmetic",
        "Ilharco et al., 2023, arXiv:2212.04089",
        TaskArithmetic,
        {"scale": Linear(0.1, 1.0)},
    ),
    (
        "ties",
        "TIES",
        "Yadav et al., 2023, arXiv:2306.01708",
        TIES,
        {"density": Linear(0.1, 0.5), "scale": Linear(0.8, 2.5)},
    ),
    ("dare", "DARE", "Yu et al., 2024, arXiv:2311.03099", DARE, {"drop": Linear(0.5, 0.99)}),
    ("model-stock", "Model Stock", "Jang et al., 2024, arXiv:2403.19522", ModelStock, {}),
    ("slerp", "SLERP", "Shoemake, SIGGRAPH 1985", SLERP, {"t": Linear(0.0, 1.0)}),
    (
        "git-rebasin",
        "Git Re-Basin",
        "Ainsworth et al., 2023, arXiv:2209.04836",
        GitRebasin,
        {},
    ),
    (
        "vanishing-variance",
        "Variance-corrected averaging",
        "Tian et al., 2024, arXiv:2404.04616",
        VarianceCorrected,
        {},
    ),
    ("ot-fusion", "OT fusion", "Singh & Jaggi, 2020, arXiv:1910.05653", OTFusion, {}),
    ("repair", "REPAIR", "Jordan et al., 2023, arXiv:2211.08403", Repaired, {}),
):
    register(Part(_slug, "merge", _name, _reference, _factory, _space))


def named(merge: str | Merge) -> Merge:
    """Return the merge of a name, with settings in parentheses where there are any.

    Args:
        merge: ``"ties"``, ``"ties(density=0.3, scope='tensor')"``, or a merge, which is returned
            as it is.

    Raises:
        UsageError: no such merge or setting (the message offers the nearest), or an impossible
            value.
    """
    return build(merge, "merge", Merge, "ties(density=0.3)")
