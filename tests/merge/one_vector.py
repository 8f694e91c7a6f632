"""Models of one tensor, float64, and its entries as numbers."""

import torch

F64 = torch.float64


def tensor(*values):
    return {"w": torch.tensor(values, dtype=F64)}


def zero(size):
    return {"w": torch.zeros(size, dtype=F64)}


def values(weights):
    return weights["w"].flatten().tolist()
