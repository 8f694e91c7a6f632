"""The time of an optimiser step, as ratios measured in one run.

For three parameter lists (the 62 tensors of a ResNet-18, the 52 of a GPT with 30 million
parameters, 1,000 small ones) prints for each rule, and for the same rule of the peers that are
installed (torch, pytorch-optimizer, heavyball, timm, schedulefree)

* the time of a step and its ratio to `torch.optim.AdamW(fused=True)` on the same list;
* its ratio to the rule's own limit: the bytes it has to move at the bandwidth of memory, measured
  on the same list in the same rounds. The bytes are counted from the formula: what the update reads
  and writes, once each, at the bandwidth of an in-place axpy; and before it what sums over tensors
  read, if the rule needs them, at the bandwidth of a dot product, since a processor that only reads
  does not fill the bus (about 33 GB/s beside 50 on two cores). Rules for whole tensors have no such
  formula; for them it is everything once. A peer has the limit of our rule;
* the bytes that a step allocates at its peak;
* the time of the first step of a new process, with an empty and with a filled kernel cache.

Run on an idle machine: python benchmarks/step_time.py [--rounds 30] [--rules adamw,lion]
"""

import argparse
import importlib
import importlib.util
import os
import re
import statistics
import subprocess
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import torch
from torch.profiler import ProfilerActivity, profile

import thalweg.optim
from thalweg.core import registry
from thalweg.engine import RuleOptimizer, execution
from thalweg.engine.closure import ClosureOptimizer
from thalweg.engine.modifier import Pass
from thalweg.engine.places import state_names
from thalweg.engine.rule import measures, measures_each
from thalweg.engine.trace import trace

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler logs to stderr otherwise

FIRST_STEPS = """
import os, sys, tempfile, time, torch
import thalweg.optim
for slug in sys.argv[1].split(","):
    with tempfile.TemporaryDirectory() as os.environ["THALWEG_CACHE"]:
        print(slug, end="", flush=True)
        for _ in range(2):  # the cache is empty, then filled
            child = os.fork()
            if child == 0:
                torch.set_num_threads(2)
                p = [torch.randn(n, requires_grad=True) for n in ((256, 256), (256,))]
                for one in p:
                    one.grad = torch.randn_like(one)
                optimizer = thalweg.optim.create(slug, [("matrix", p[0]), ("bias", p[1])])
                start = time.perf_counter()
                optimizer.step()
                print("", time.perf_counter() - start, end="", flush=True)
                os._exit(0)
            os.waitpid(child, 0)
        print(flush=True)
"""
AT_ONCE = 8  # rules whose tensors lie in memory together


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
    "1000 small": [(1000,)] * 1000,
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


def pytorch_optimizer(name: str, **hyper: Any) -> Callable[[Sequence[torch.Tensor]], Any]:
    return lambda params: getattr(importlib.import_module("pytorch_optimizer"), name)(
        params, **hyper
    )


def heavyball(name: str, **hyper: Any) -> Callable[[Sequence[torch.Tensor]], Any]:
    def make(params: Sequence[torch.Tensor]) -> Any:
        module = importlib.import_module("heavyball")
        module.utils.compile_mode = "default"  # its own default tries kernels out for minutes
        return getattr(module, name)(params, **hyper)

    return make


def timm(module: str, name: str) -> Callable[[Sequence[torch.Tensor]], Any]:
    def make(params: Sequence[torch.Tensor]) -> Any:
        # The package imports torchvision, which its optimisers do not need.
        if "timm" not in sys.modules:
            spec = importlib.util.find_spec("timm")
            if spec is None:
                raise ImportError("timm is not installed")
            folders = list(spec.submodule_search_locations or ())
            for package, inner in (("timm", ""), ("timm.optim", "optim")):
                sys.modules[package] = types.ModuleType(package)
                sys.modules[package].__path__ = [os.path.join(one, inner) for one in folders]
        return getattr(importlib.import_module(f"timm.optim.{module}"), name)(params)

    return make


def schedulefree(name: str, **hyper: Any) -> Callable[[Sequence[torch.Tensor]], Any]:
    def make(params: Sequence[torch.Tensor]) -> Any:
        optimizer = getattr(importlib.import_module("schedulefree"), name)(params, **hyper)
        optimizer.train()
        return optimizer

    return make


PEERS: dict[str, tuple[str, Callable[[Sequence[torch.Tensor]], Any]]] = {
    "torch foreach AdamW": ("adamw", lambda params: torch.optim.AdamW(params, foreach=True)),
    "torch Adafactor": ("adafactor", torch.optim.Adafactor),
    "torch foreach RAdam": ("radam", lambda params: torch.optim.RAdam(params, foreach=True)),
    "pytorch-optimizer AdaBelief": ("adabelief", pytorch_optimizer("AdaBelief")),
    "pytorch-optimizer Adan": ("adan", pytorch_optimizer("Adan")),
    "pytorch-optimizer Adan, foreach": ("adan", pytorch_optimizer("Adan", foreach=True)),
    "pytorch-optimizer AdEMAMix": ("ademamix", pytorch_optimizer("AdEMAMix")),
    "pytorch-optimizer MARS": ("mars-adamw", pytorch_optimizer("MARS")),
    "pytorch-optimizer Lion": ("lion", pytorch_optimizer("Lion")),
    "pytorch-optimizer Prodigy": ("prodigy", pytorch_optimizer("Prodigy")),
    "pytorch-optimizer LAMB": ("lamb", pytorch_optimizer("Lamb")),
    "timm AdaBelief": ("adabelief", timm("adabelief", "AdaBelief")),
    "timm Adan": ("adan", timm("adan", "Adan")),
    "timm LAMB": ("lamb", timm("lamb", "Lamb")),
    "timm Lion": ("lion", timm("lion", "Lion")),
    "timm MARS": ("mars-adamw", timm("mars", "Mars")),
    "heavyball AdamW, compiled": ("adamw", heavyball("AdamW")),
    "heavyball AdEMAMix, compiled": ("ademamix", heavyball("AdEMAMix")),
    "schedulefree AdamW": ("schedule-free-adamw", schedulefree("AdamWScheduleFree")),
    "schedulefree AdamW, for-loop": (
        "schedule-free-adamw",
        schedulefree("AdamWScheduleFree", foreach=False),
    ),
}


def peers(shapes: list[tuple[int, ...]], slugs: list[str]) -> Iterator[tuple[str, str, Any]]:
    """Yield label, slug and step of the peers that run here."""
    for label, (slug, make) in PEERS.items():
        if slug not in slugs:
            continue
        params = [torch.nn.Parameter(p.detach()) for _, p in tensors(shapes)]
        gradients = [g.grad for _, g in tensors(shapes)]
        try:
            optimizer = make(params)
        except ImportError:
            continue
        except Exception as error:
            print(f"  {label} is not made: {type(error).__name__}: {str(error)[:90]}")
            continue

        def step(
            params: list[torch.nn.Parameter] = params,
            gradients: list[Any] = gradients,
            optimizer: Any = optimizer,
        ) -> None:
            for p, g in zip(params, gradients, strict=True):  # some take gradients away
                p.grad = g
            optimizer.step()

        yield label, slug, step


def moved_bytes(optimizer: RuleOptimizer) -> tuple[int, int]:
    """Return the bytes that a step's update has to move, and those that sums before it read."""
    turns: list[execution.Turn] = []
    with mock.patch.object(execution, "update", lambda turn, how: turns.append(turn)):
        optimizer.step()
    moved = [moved_by(turn) for turn in turns]
    return sum(update for update, _ in moved), sum(read for _, read in moved)


def moved_by(turn: execution.Turn) -> tuple[int, int]:
    if turn.rule.reads == "tensor":
        held = [x for one in turn.states for x in one.values() if torch.is_tensor(x)]
        return 3 * sum(p.nbytes for p in turn.p) + 2 * sum(x.nbytes for x in held), 0
    state = state_names(turn.states)
    columns = {"g": turn.g, "p": turn.p}
    columns |= {name: [one[name] for one in turn.states] for name in state}
    sizes = {name: sum(x.nbytes for x in column) for name, column in columns.items()}
    passes: list[Pass | None] = [None]
    passes += [Pass("measure")] * measures(type(turn.rule))
    passes += [Pass("measure_each")] * measures_each(type(turn.rule))
    names = (*vars(turn.k), *turn.each[0])
    update = read = 0
    for one in passes:
        formula = trace(turn.rule, (), one, state, names, turn.maximize)
        text = " ".join((*formula.each, *formula.stores.values(), *formula.sums.values()))
        moved = sum(sizes[name] for name in set(re.findall(r"\bin_(\w+)", text)))
        if one is None:
            update = moved + sum(sizes[name] for name in formula.stores)
        else:
            read += moved
    return update, read


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


def takes_gradients(slug: str) -> bool:
    """Return whether the rule steps with nothing but gradients."""
    factory = registry.get(slug, "rule").factory
    return (
        isinstance(factory, type)
        and issubclass(factory, RuleOptimizer)
        and not issubclass(factory, ClosureOptimizer)
        and not factory.rule.needs_loss
    )


def print_first_steps(slugs: list[str]) -> None:
    """Print the seconds of first steps, each in a process of its own that has imported torch."""
    print("\nfirst step of a process, seconds: empty kernel cache, filled kernel cache", flush=True)
    command = [sys.executable, "-c", FIRST_STEPS, ",".join(slugs)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        slug, cold, warm = line.split()
        print(f"  {slug:32s} {float(cold):6.2f} {float(warm):6.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--rules", default=",".join(registry.slugs("rule")))
    parser.add_argument("--lists", default=",".join(LISTS))
    parser.add_argument("--element-wise", action="store_true", help="leave other rules out")
    options = parser.parse_args()
    slugs = [slug for slug in options.rules.split(",") if takes_gradients(slug)]
    if options.element_wise:
        slugs = [s for s in slugs if registry.get(s, "rule").factory.rule.reads == "element"]
    warnings.simplefilter("ignore")
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}, medians of {options.rounds} rounds, "
        f"load before {os.getloadavg()[0]:.2f}"
    )
    for name in options.lists.split(","):
        shapes = LISTS[name]
        entries = sum(torch.Size(shape).numel() for shape in shapes)
        print(f"\n{name}: {len(shapes)} tensors, {entries:,} entries")
        print(f"  {'':32s} {'ms':>9s} {'x fused':>8s} {'x limit':>8s} {'transient':>12s}")
        for first in range(0, len(slugs), AT_ONCE):
            measure_list(shapes, slugs[first : first + AT_ONCE], options.rounds)
    print_first_steps(slugs)


def measure_list(shapes: list[tuple[int, ...]], slugs: list[str], rounds: int) -> None:
    entries = sum(torch.Size(shape).numel() for shape in shapes)
    params = [p for _, p in tensors(shapes)]
    fused = torch.optim.AdamW(params, fused=True)
    x, y = torch.zeros(entries), torch.ones(entries)
    rules = {slug: thalweg.optim.create(slug, tensors(shapes)) for slug in slugs}
    slow = [slug for slug in slugs if rules[slug].rule.reads == "tensor"]
    steps: dict[str, Callable[[], object]] = {
        "axpy": lambda: x.add_(y, alpha=1e-9),
        "dot": lambda: torch.dot(x, y),
        "torch fused AdamW": fused.step,
    }
    steps |= {slug: rule.step for slug, rule in rules.items() if slug not in slow}
    for step in (*steps.values(), *(rules[slug].step for slug in slow)):
        step()
        step()
    moved: dict[str, tuple[int, int]] = {"torch fused AdamW": (7 * x.nbytes, 0)}
    moved |= {slug: moved_bytes(rule) for slug, rule in rules.items()}
    taken = median_times(steps, rounds)
    # Matrix rules take seconds on the larger lists; a few rounds are enough for them.
    for slug in slow:
        steps[slug] = rules[slug].step
        taken |= median_times({slug: steps[slug]}, max(3, rounds // 10))
    bandwidth, reading = 3 * x.nbytes / taken["axpy"], 2 * x.nbytes / taken["dot"]
    print(f"  (axpy {bandwidth / 1e9:.1f} GB/s, dot {reading / 1e9:.1f} GB/s)")

    def report(label: str, slug: str, seconds: float, step: Callable[[], object]) -> None:
        update, sums = moved[slug]
        limit = update / bandwidth + sums / reading
        print(
            f"  {label:32s} {seconds * 1e3:9.2f} {seconds / taken['torch fused AdamW']:8.2f} "
            f"{seconds / limit:8.2f} {transient_bytes(step):12,}",
            flush=True,
        )

    for label, seconds in taken.items():
        if label not in ("axpy", "dot"):
            report(label, label, seconds, steps[label])
    for label, slug, step in peers(shapes, slugs):
        try:
            step()
            step()
            report(label, slug, median_times({label: step}, max(3, rounds // 3))[label], step)
        except Exception as error:
            print(f"  {label} does not run: {type(error).__name__}: {str(error)[:90]}")


if __name__ == "__main__":
    main()
