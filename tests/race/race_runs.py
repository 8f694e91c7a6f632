"""A planned run and a task file for tests."""

from thalweg.race.plan import Planned

RUN = Planned("tune-00-000", "a", "tune", 0, 0, 7, "adamw(lr=0.1)", {"adamw.lr": 0.1}, {})

TASK = """
import torch
from torch import nn
higher_is_better = False
steps = 10
def model(): return nn.Linear(2, 1)
def data():
    x = torch.randn(64, 2)
    return (x, x.sum(1, keepdim=True)), (x, x.sum(1, keepdim=True))
def loss(model, batch):
    return (model(batch[0]) - batch[1]).square().mean()
metric = loss
"""
