"""One of two processes that train a sharded model and compare it with the whole one.

Run by test_sharded.py as ``python sharded_run.py RANK STORE``.
"""

import math
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from thalweg.around import SAM, Lookahead, dual_vector
from thalweg.average import EMA, SWA

STEPS = 4


def net():
    torch.manual_seed(0)
    # Five rows do not divide by two, and a bias of one leaves a process without any entry.
    first = nn.Linear(3, 5, bias=False)
    return nn.Sequential(first, nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 1)).double()


def train(model, p):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(8, 3, generator=generator, dtype=torch.float64)
    base = torch.optim.Adam(model.parameters(), lr=0.05, foreach=False)
    lookahead = Lookahead(base, k=2, pullback="pullback")
    optimizer = SAM(lookahead, rho=0.3, p=p, model=model)
    ema, swa = EMA(0.8).attach(model), SWA(0.3).attach(model)

    def closure():
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss

    for step in range(STEPS):
        optimizer.step(closure)
        ema.update(step, STEPS)
        swa.update(step, STEPS)
    return optimizer, ema, swa


def whole(x):
    return x.full_tensor() if isinstance(x, DTensor) else x


def tensors(model):
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: whole(x.detach()).clone() for name, x in named.items()}


def close(one, other):
    assert one.keys() == other.keys()
    for name, x in one.items():
        torch.testing.assert_close(x, other[name], rtol=1e-11, atol=1e-13)


def main(rank, store):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    for p in (1.0, 2.0, 3.0, math.inf):
        dense, sharded = net(), net()
        fully_shard(sharded, mesh=mesh)
        _, dense_ema, dense_swa = train(dense, p)
        optimizer, ema, swa = train(sharded, p)
        after = tensors(sharded)
        close(after, tensors(dense))
        for average, other in ((ema, dense_ema), (swa, dense_swa)):
            with average.applied(sharded), other.applied(dense):
                close(tensors(sharded), tensors(dense))
            assert all(torch.equal(x, after[name]) for name, x in tensors(sharded).items())
            average.load_state_dict(other.state_dict())
            close({k: whole(x) for k, x in average.state_dict().items()}, other.state_dict())
        slow = optimizer.state_dict()["lookahead"]["slow"]
        assert all(isinstance(x, DTensor) for x in slow.values())
        optimizer.load_state_dict(optimizer.state_dict())
        optimizer.zero_grad()
        optimizer.step()  # nothing to do, on every process alike
        broken = torch.tensor([1.0, 2.0, 3.0, math.nan])  # on the second process alone
        (e,) = dual_vector([distribute_tensor(broken, mesh, [Shard(0)])], 0.1, p)
        assert e.isnan().all()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
