"""One worker process of `thalweg.train.swap`: ``python -m thalweg.train.swap_worker FOLDER I``."""

import dataclasses
import json
import sys
from pathlib import Path

from safetensors.torch import load_file, save
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.core.files import write_atomically
from thalweg.core.seeds import derive_seed
from thalweg.train.events import Callback
from thalweg.train.fit import fit
from thalweg.train.result import Point
from thalweg.train.run import Run
from thalweg.workload import Workload, load
from thalweg.workload.check import new_model


class _Reached(Exception):  # noqa: N818 - it ends a phase, and is no error
    """The first phase is over."""


class _Until(Callback):
    """Ends the first phase, and keeps the training weights that it ends with."""

    def __init__(self, until: float) -> None:
        self._until = until
        self.weights: dict[str, Tensor] = {}
        self.steps, self.metric, self.reached = 0, float("nan"), False

    def on_evaluate(self, run: Run, point: Point) -> None:
        self.metric = run.training_metric()
        self.reached = run.workload.reached(self.metric, self._until)
        self.steps = point.step
        if self.reached or point.step == run.settings.steps:
            state = run.model.state_dict()
            self.weights = {name: x.detach().cpu().clone() for name, x in state.items()}
        if self.reached:
            raise _Reached


def main(folder: Path, number: int) -> None:
    """Take part in the first phase, do the second, write weights and what they are worth."""
    done = folder / f"worker-{number}.json"
    # Without the end of the first phase all have to take part in it again, whatever they have done.
    if done.exists() and (folder / "first.json").exists():
        return
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    problem = load(plan["workload"])
    weights, facts = _first(folder, number, plan, problem)
    if plan["second_steps"]:
        weights, metric = _second(folder, number, plan, problem, weights)
    else:
        metric = facts.pop("validation")
    facts.pop("validation", None)
    write_atomically(folder / f"worker-{number}.safetensors", save(weights))
    write_atomically(done, json.dumps({**facts, "metric": metric}).encode())


def _first(folder: Path, number: int, plan: dict, problem: Workload) -> tuple[dict, dict]:
    """Return the weights of the first phase, and facts, which are the same for all workers."""
    file, facts = folder / "first.safetensors", folder / "first.json"
    if facts.exists():
        return load_file(file), json.loads(facts.read_text(encoding="utf-8"))
    until = _Until(plan["until"])
    curve = _Curve()
    try:
        result = fit(
            dataclasses.replace(problem, batch_size=plan["first_batch"]),
            plan["first"],
            steps=plan["first_steps"],
            seed=plan["seed"],
            device="cpu",
            evaluate_every=plan["evaluate_every"],
            callbacks=[curve, until],
            checkpoint=folder / "first",
            threads=plan["threads"],
            parallel="ddp" if plan["workers"] > 1 else None,
        )
    except _Reached:
        pass
    else:
        if result.status != "ok":
            raise UsageError(f"the first phase {result.status}: {result.error}")
    known = {"first_steps": until.steps, "first_metric": until.metric, "reached": until.reached}
    known["validation"] = curve.metric
    if number == 0:
        write_atomically(file, save(until.weights))
        write_atomically(facts, json.dumps(known).encode())
    return until.weights, known


def _second(
    folder: Path, number: int, plan: dict, problem: Workload, weights: dict[str, Tensor]
) -> tuple[dict[str, Tensor], float]:
    """Return a worker's own weights and metric after the second phase."""

    def start() -> nn.Module:
        model = new_model(problem)
        model.load_state_dict(weights)
        return model

    result = fit(
        dataclasses.replace(problem, model=start),
        plan["second"],
        steps=plan["second_steps"],
        seed=derive_seed(plan["seed"], "swap", number) >> 32,
        device="cpu",
        evaluate_every=plan["second_steps"],
        checkpoint=folder / f"second-{number}",
        checkpoint_every=plan["evaluate_every"],
        threads=plan["threads"],
    )
    if result.status != "ok" or result.final_metric is None:
        raise UsageError(f"the second phase of worker {number} {result.status}: {result.error}")
    return result.weights, result.final_metric


class _Curve(Callback):
    """Keeps the last validation metric."""

    metric = float("nan")

    def on_evaluate(self, run: Run, point: Point) -> None:
        self.metric = point.metric


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
