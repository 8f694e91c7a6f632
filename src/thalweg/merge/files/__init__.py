"""Checkpoints on disk: read in pieces, merged in pieces, written whole or not at all."""

from thalweg.merge.files.checkpoint import Checkpoint, open_checkpoint
from thalweg.merge.files.merging import Merged, merge_files
from thalweg.merge.files.recipe import MergeRecipe, read_recipe

__all__ = [
    "Checkpoint",
    "MergeRecipe",
    "Merged",
    "merge_files",
    "open_checkpoint",
    "read_recipe",
]
