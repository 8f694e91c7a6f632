"""One of two processes that average a sharded model and compare with the whole one.

Run by test_sharded_averages.py as ``python sharded_averages.py RANK STORE``.
"""

import io
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from thalweg.average import FGE, SWAG, TWA, Ensemble, PowerEMA
from thalweg.core import registry
from thalweg.core.errors import UsageError
from thalweg.engine.distributed import gathered, like, local

STEPS = 24
LOSSES = [3.0, 2.0, 1.0, 1.1, 1.1, 1.1, *[1.2] * 6]
SETTINGS = {
    "lawa": {"latest": 3, "every": 2},
    "nt-asgd": {"patience": 1},
    "power-ema": {"snapshots": 4},
    "sma": {"start": 5},
    "swad": {"patience": 1, "overfit_patience": 2, "tolerance": 0.0},
    "swag": {"start": 0.2, "every": 1, "rank": 3},
    "switch-ema": {"decay": 0.8, "interval": 5},
}


def net():
    torch.manual_seed(0)
    # Five rows do not divide by two, and a bias of one leaves a process without any entry.
    return nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 1)).double()


def sharded(mesh):
    model = net()
    fully_shard(model, mesh=mesh)
    return model


def advance(model, average, steps):
    """Move the weights by random numbers, those of a walk that turns back now and then."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        with torch.no_grad():
            for p in model.parameters():
                move = torch.randn(p.shape, generator=generator, dtype=torch.float64)
                local(p).add_(local(like(move, p)) * (-1) ** (step // 3))
        average.update(step, STEPS)
        if step % 2 and average.monitors:
            average.evaluated(LOSSES[step // 2])


def same(what, found, expected):
    for name, x in expected.items():
        torch.testing.assert_close(
            gathered(found[name]), x, rtol=0, atol=1e-12, msg=lambda m, n=name: f"{what}: {n}: {m}"
        )


def compare(mesh, slug, precision):
    """Run sharded and whole; save half way and load; apply; compare all."""
    settings = registry.get(slug, "average").factory(
        **SETTINGS.get(slug, {}), **({"precision": precision} if precision else {})
    )
    whole, model = net(), sharded(mesh)
    expected, average = settings.attach(whole), settings.attach(model)
    advance(whole, expected, range(STEPS))
    advance(model, average, range(STEPS // 2))
    again = settings.attach(model)
    again.load_state_dict(average.state_dict())
    file = io.BytesIO()  # a state that was gathered into one file serves too
    torch.save({name: gathered(x) for name, x in average.state_dict().items()}, file)
    file.seek(0)
    gathered_again = settings.attach(model)
    gathered_again.load_state_dict(torch.load(file, weights_only=True))
    same(
        "gathered state",
        gathered_again.weights(),
        {n: gathered(x) for n, x in again.weights().items()},
    )
    advance(model, again, range(STEPS // 2, STEPS))
    assert again.count == expected.count, f"{again.count} points for {expected.count}"
    if precision is None:  # bits of the rounding go by the place in the local part
        same("weights()", again.weights(), expected.weights())
        with again.applied(model), expected.applied(whole):
            same("applied()", dict(model.named_parameters()), dict(whole.named_parameters()))
        same("the model", dict(model.named_parameters()), dict(whole.named_parameters()))
    if slug == "power-ema" and precision is None:
        same("reconstruct()", again.reconstruct(width=0.2)[0], expected.reconstruct(width=0.2)[0])
    if slug == "swag" and precision is None:
        one, two = (x.sample(torch.Generator().manual_seed(1)) for x in (again, expected))
        same("sample()", one, two)


def compare_files(mesh, folder):
    """Reconstruct from files that one process wrote, of weights spread over two."""
    settings = PowerEMA(snapshots=4, folder=folder)
    whole, model = net(), sharded(mesh)
    expected, average = PowerEMA(snapshots=4).attach(whole), settings.attach(model)
    advance(whole, expected, range(STEPS))
    advance(model, average, range(STEPS))
    for at in (12, STEPS):
        wanted, _ = expected.reconstruct(width=0.2, at=at)
        same("from files", average.reconstruct(width=0.2, at=at)[0], wanted)


def refuses(what, make):
    try:
        make()
    except UsageError as error:
        message = str(error)
    else:
        message = "nothing"
    assert message.startswith(what), f"{what} refuses sharded weights with {message}"
    assert "spread over processes" in message, message


def main(rank, store):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    failed = []
    for slug in registry.slugs("average"):
        if slug in ("twa", "fge"):
            continue
        for precision in (None, "bfloat16") if slug in ("ema", "swag") else (None,):
            try:
                compare(mesh, slug, precision)
            except Exception as error:
                failed.append(f"{slug} in {precision}: {type(error).__name__}: {error}")
    try:
        compare_files(mesh, f"{store}-snapshots")
    except Exception as error:
        failed.append(f"power-ema in files: {type(error).__name__}: {error}")
    model = sharded(mesh)
    refuses("twa", lambda: TWA().attach(model))
    refuses("fge", lambda: FGE().attach(model))
    refuses("swag with samples", lambda: SWAG(samples=2).attach(model))
    refuses("an ensemble", lambda: Ensemble(model, [net().state_dict()]))
    dist.destroy_process_group()
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
