"""Train `digits` and `text` with every rule, and write what the documentation shows of it.

For each rule, in a process of its own on one thread:

* `digits` for 100 steps at seven learning rates over the rule's search space (its default alone
  if it has none): the accuracy and the last training loss at each;
* `text` for 40 steps at the best two of them: the better validation loss;
* bytes of state per parameter, and the peak memory of a training step;
* the time of a training step on `digits` as a multiple of AdamW's: the least of the medians of
  five short runs of each, in turn.

Rules that cannot do that with a network of this size in bearable time and memory are measured on
what they are for, which the table says: those that hold large matrices, or are for convex
sums, on softmax regression of the same digits (`LINEAR`), and of each letter of the same text on
the one before it (`LINEAR_TEXT`), some with options (`OPTIONS`).

The training runs give the same numbers on a busy machine (``--skip-times``); times need an idle
one (``--only-times`` adds them to what is there).

Results are kept in docs/measurements.json; rules that it holds already are left out unless they
are named.

Run on an idle machine: python benchmarks/rule_table.py [--jobs 2] [SLUG ...]
"""

import argparse
import dataclasses
import json
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

RESULTS = Path(__file__).parents[1] / "docs" / "measurements.json"
DIGITS_STEPS, TEXT_STEPS, RATES, LIMIT = 100, 40, 7, 3600

SOFTMAX = "digits of 7 x 7, softmax regression"
SOFTMAX_TEXT = "text of one case, 2,048 windows of 5, softmax regression on the letter before"
OPTIONS = {
    "gauss-newton": ', solver="cg"',
    "saddle-free-newton": ", rank=20, damping=0.1",
    "prox-linear": ', local_model="truncated"',
}
LINEAR = (
    "newton",
    "grad-norm-smooth-newton",
    "filtered-newton",
    "tngd",
    "egn",
    "a-coder",
    "ai-sarah",
)
LINEAR_TEXT = (*LINEAR, "saga")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slugs", nargs="*", metavar="SLUG")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--skip-times", action="store_true")
    parser.add_argument("--only-times", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        found = results().get(options.one, {}) if options.only_times else measure(options.one)
        times = {} if options.skip_times else {"step_ratio": step_ratio(options.one, found)}
        print(json.dumps(found | times))
        return
    import thalweg.recipe  # noqa: F401 - fills the registry
    from thalweg.core import registry

    kept = results()
    missing = [
        slug
        for slug in registry.slugs("rule")
        if slug not in kept or (options.only_times and "step_ratio" not in kept[slug])
    ]
    wanted = options.slugs or missing
    flags = ["--skip-times"] * options.skip_times + ["--only-times"] * options.only_times
    lock = Lock()

    def run(slug: str) -> None:
        command = [sys.executable, __file__, "--one", slug, *flags]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
            found = json.loads(done.stdout) if done.returncode == 0 else None
            reason = done.stderr.strip().splitlines()[-1:] or ["no output"]
        except subprocess.TimeoutExpired:
            found, reason = None, [f"took more than {LIMIT} s"]
        with lock:
            before = kept.get(slug, {})
            if not options.only_times:
                before = {name: before[name] for name in ("step_ratio",) if name in before}
            kept[slug] = before | (found if found is not None else {"error": reason[0]})
            RESULTS.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n")
            digits = kept[slug].get("digits", {})
            print(f"{slug:24s} {digits.get('accuracy')} {kept[slug].get('error', '')}", flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(run, wanted))


def results() -> dict[str, Any]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def measure(slug: str) -> dict[str, Any]:
    import torch

    import thalweg.recipe  # noqa: F401 - fills the registry
    from thalweg.core import registry

    torch.set_num_threads(1)
    space = registry.get(slug, "rule").space.get("lr")
    default = registry.get(slug, "rule").parameters["lr"]
    rates = [space.at(i / (RATES - 1)) for i in range(RATES)] if space else [default]
    options = OPTIONS.get(slug, "")
    task = SOFTMAX if slug in LINEAR else "digits"
    curve = [trained(task, f"{slug}(lr={rate!r}{options})", DIGITS_STEPS) for rate in rates]
    scores = [run["metric"] if run["metric"] is not None else -math.inf for run in curve]
    order = sorted(range(len(rates)), key=lambda i: -scores[i])
    best = order[0]
    text_task = SOFTMAX_TEXT if slug in LINEAR_TEXT else "text"
    text = [
        {"lr": rates[i], **trained(text_task, f"{slug}(lr={rates[i]!r}{options})", TEXT_STEPS)}
        for i in order[:2]
        if math.isfinite(scores[i])
    ]
    text = [run for run in text if run["metric"] is not None] or text[:1]
    return {
        "digits": {
            "task": task,
            "options": options.removeprefix(", "),
            "lr": rates[best],
            "accuracy": curve[best]["metric"],
            "loss": curve[best]["loss"],
            "peak_bytes": curve[best]["peak_bytes"],
            "state_bytes_per_parameter": curve[best]["state_bytes_per_parameter"],
            "reason": curve[best]["reason"],
        },
        "sensitivity": [
            {"lr": rate, "loss": run["loss"], "accuracy": run["metric"]}
            for rate, run in zip(rates, curve, strict=True)
        ],
        "text": {"task": text_task, **min(text, key=lambda run: run["metric"] or math.inf)}
        if text
        else {"metric": None},
    }


def step_ratio(slug: str, found: dict[str, Any]) -> float | None:
    """Return the time of a training step as a multiple of AdamW's."""
    import torch

    torch.set_num_threads(1)
    lr = found.get("digits", {}).get("lr", 1e-3)
    task = SOFTMAX if slug in LINEAR else "digits"
    times: dict[str, list[float]] = {slug: [], "adamw": []}
    for _ in range(5):
        for name, taken in times.items():
            recipe = f"{name}(lr={lr!r}{OPTIONS.get(name, '')})"
            taken.append(trained(task, recipe, 20)["seconds_per_step"])
    if None in times[slug]:
        return None
    return round(min(times[slug]) / min(times["adamw"]), 3)


def trained(workload: str, recipe: str, steps: int) -> dict[str, Any]:
    import torch
    from torch import nn

    from thalweg.train import fit
    from thalweg.workload import load
    from thalweg.workload.text import CHARACTERS

    task = load(workload.split()[0])
    if workload == SOFTMAX:
        task = dataclasses.replace(
            task,
            model=lambda: nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(49, 10)),
        )
    if workload == SOFTMAX_TEXT:
        count = len(CHARACTERS) - 26  # lower case is the last 26, and becomes the 26 before
        train, validation = (
            torch.where(x >= count, x - 26, x) for x in (task.train[:2048, :5], task.validation)
        )
        task = dataclasses.replace(
            task, model=lambda: nn.Embedding(count, count), train=train, validation=validation
        )
    try:
        run = fit(task, recipe, steps=steps, seed=0, threads=1, evaluate_every=max(5, steps // 4))
    except Exception as error:
        return dict.fromkeys(
            ("metric", "loss", "seconds_per_step", "peak_bytes", "state_bytes_per_parameter")
        ) | {"reason": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
    count = sum(p.numel() for p in task.model().parameters())
    loss = run.curve[-1].train_loss if run.curve else None
    return {
        "metric": run.final_metric,
        "loss": loss if loss is not None and math.isfinite(loss) else None,
        "seconds_per_step": run.seconds_per_step,
        "peak_bytes": run.peak_bytes,
        "state_bytes_per_parameter": round(run.state_bytes / count, 3),
        "reason": None if run.status == "ok" else run.error,
    }


if __name__ == "__main__":
    main()
