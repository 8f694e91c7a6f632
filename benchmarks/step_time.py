"""The time of an optimiser step, as ratios measured in one run.

For three parameter lists (the 62 tensors of a ResNet-18, the 52 of a GPT with 30 million
parameters, 1,000 small ones) prints for each rule

* the time of a step and its ratio to `torch.optim.AdamW(fused=True)` on the same list;
* its ratio to the rule's own limit: the bytes it has to move (every tensor read, every tensor
  written, once) at the bandwidth of an in-place axpy on the same list;
* the bytes that a step allocates at its peak;
* the time of the first step of a new process, with an empty and with a filled kernel cache.

Run on an idle machine: python benchmarks/step_time.py [--rounds 30] [--rules adamw,lion]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

import thalweg.optim
from thalweg.core import registry
from thalweg.engine import RuleOptimizer

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler logs to stderr otherwise

FIRST_STEP = """
import sys, time, torch
import thalweg.optim
torch.set_num_threads(2)
p = [torch.randn(256, 256, requires_grad=True), torch.randn(256, requires_grad=True)]
for one in p:
    one.grad = torch.randn_like(one)
optimizer = thalweg.optim.create(sys.argv[1], [("matrix", p[0]), ("bias", p[1])])
start = time.perf_counter()
optimizer.step()
print(time.perf_counter() - start)
"""


def resnet18() -> list[tuple[int, ...]]:
    shapes: list[tuple[int, ...]] = [(64, 3, 7, 7), (64,), (64,)]
    width = 64
    for stage in (64, 128, 256, 512):
        for block in range(2):
            for inputs in (width if block == 0 else stage, stage):
                shapes += [(stage, inputs, 3, 3), (stage,), (stage,)]
            if block == 0 and stage != width:
                shapes += [(stage, width, 1, 1), (stage,), (stage,)]
        width = stage
    return [*shapes, (1000, 512), (1000,)]


def gpt30m() -> list[tuple[int, ...]]:
    d = 512
    layer = [(d,), (d,), (3 * d, d), (3 * d,), (d, d), (d,)]
    layer += [(d,), (d,), (4 * d, d), (4 * d,), (d, 4 * d), (d,)]
    return [(32768, d), (512, d), *layer * 4, (d,), (d,)]


LISTS: dict[str, list[tuple[int, ...]]] = {
    "ResNet-18": resnet18(),
    "GPT 30M": gpt30m(),
    "1,000 small": [(1000,)] * 1000,
}


def named(shapes: list[tuple[int, ...]]) -> list[tuple[str, tuple[int, ...]]]:
    """Name embeddings and the output layer as models do, so that matrix rules leave them out."""
    roles = {(32768, 512): "wte.weight", (1000, 512): "head.weight"}
    names = [roles.get(shape, f"layer.{index}") for index, shape in enumerate(shapes)]
    if (32768, 512) in shapes:
        names[1] = "wpe.weight"
    return list(zip(names, shapes, strict=True))


def tensors(shapes: list[tuple[int, ...]]) -> list[tuple[str, torch.Tensor]]:
    random = torch.Generator().manual_seed(0)
    made = []
    for name, shape in named(shapes):
        p = (0.02 * torch.randn(shape, generator=random)).requires_grad_()
        p.grad = 1e-3 * torch.randn(shape, generator=random)
        made.append((name, p))
    return made


def moved_tensors(optimizer: RuleOptimizer) -> float:
    """Return the bytes that a step reads and writes, if it touches every tensor once."""
    total = 0
    for group in optimizer.param_groups:
        for p in group["params"]:
            state = sum(x.nbytes for x in optimizer.state[p].values() if torch.is_tensor(x))
            # g and p read, p written; every state tensor read and written. Prodigy's start is
            # read alone, but its sums need a first pass over four tensors.
            total += 3 * p.nbytes + 2 * state
            if group["rule"] == "prodigy":
                total += 4 * p.nbytes - 2 * p.nbytes
    return total


def transient_bytes(step: Callable[[], object]) -> int:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    alive = peak = 0
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak


def median_times(steps: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return median seconds of each, measured in turns so that drifts hit all alike."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in times.items()}


def first_step(slug: str) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "THALWEG_CACHE": folder}
        command = [sys.executable, "-c", FIRST_STEP, slug]
        runs = [
            subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            for _ in range(2)
        ]
    cold, warm = (float(run.stdout) for run in runs)
    return cold, warm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--rules", default=",".join(registry.slugs("rule")))
    options = parser.parse_args()
    slugs = options.rules.split(",")
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}, medians of {options.rounds} rounds, "
        f"load before {os.getloadavg()[0]:.2f}"
    )
    for name, shapes in LISTS.items():
        measure_list(name, shapes, slugs, options.rounds)
    print("\nfirst step of a process, seconds: empty kernel cache, filled kernel cache")
    for slug in slugs:
        cold, warm = first_step(slug)
        print(f"  {slug:22s} {cold:6.2f} {warm:6.2f}")


def measure_list(name: str, shapes: list[tuple[int, ...]], slugs: list[str], rounds: int) -> None:
    entries = sum(torch.Size(shape).numel() for shape in shapes)
    print(f"\n{name}: {len(shapes)} tensors, {entries:,} entries")
    params = [p for _, p in tensors(shapes)]
    fused = torch.optim.AdamW(params, fused=True)
    x, y = torch.zeros(entries), torch.ones(entries)
    rules = {slug: thalweg.optim.create(slug, tensors(shapes)) for slug in slugs}
    slow = [slug for slug in slugs if rules[slug].rule.reads == "tensor"]
    steps: dict[str, Callable[[], object]] = {
        "axpy": lambda: x.add_(y, alpha=1e-9),
        "torch fused AdamW": fused.step,
    }
    steps |= {slug: rule.step for slug, rule in rules.items() if slug not in slow}
    for step in (*steps.values(), *(rules[slug].step for slug in slow)):
        step()
        step()
    taken = median_times(steps, rounds)
    # Matrix rules take seconds on the larger lists; a few rounds are enough for them.
    for slug in slow:
        taken |= median_times({slug: rules[slug].step}, max(3, rounds // 10))
    bandwidth = 3 * x.nbytes / taken["axpy"]
    print(f"  axpy moves {bandwidth / 1e9:.1f} GB/s")
    print(f"  {'':22s} {'ms':>9s} {'x fused':>8s} {'x limit':>8s} {'transient':>12s}")
    for label, seconds in taken.items():
        if label == "axpy":
            continue
        if label in rules:
            moved, step = moved_tensors(rules[label]), rules[label].step
        else:
            moved, step = 7 * x.nbytes, fused.step
        print(
            f"  {label:22s} {seconds * 1e3:9.2f} {seconds / taken['torch fused AdamW']:8.2f} "
            f"{seconds / (moved / bandwidth):8.2f} {transient_bytes(step):12,}"
        )


if __name__ == "__main__":
    main()
