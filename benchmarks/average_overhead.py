"""What averages along a run cost, as a share of a training step.

A model is trained by AdamW on random data; then the time of ``update`` of each average is taken
after every step, in turns with the others on the very same steps, so that what else the machine
does hits all alike. Printed is, for each, as shares of the median step without averages: the cost
of an update on average (from the medians of updates that took a point and of those that did not,
by how many of each there were) and that of an update that took a point. The settings are the
defaults for a run of ``--run`` steps, of which the last ``--steps`` are made, except that training
in a span begins within these, and that averages by validation loss have found their start. Run it
on an idle machine::

    python benchmarks/average_overhead.py [--model digits|resnet|gpt] [--steps 120] [--threads 2]
"""

import argparse
import statistics
import time

import torch
from torch import nn

import thalweg.recipe  # noqa: F401 - fills the registry
from thalweg.core import registry
from thalweg.workload.digits import ConvolutionalNet
from thalweg.workload.resnet import ResNet

EXTRA = {
    "ema every 10": ("ema", {"every": 10}),
    "ema in bfloat16": ("ema", {"precision": "bfloat16"}),
    "ema in bfloat16 every 10": ("ema", {"precision": "bfloat16", "every": 10}),
    "naswa every 10": ("naswa", {"every": 10}),
}
LOSSES = (1, 2, 2, 2, 2, 2, 2)  # start what goes by the validation loss


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        n, t, width = x.shape
        q, k, v = self.mix(self.norms[0](x)).view(n, t, 3, 8, width // 8).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(n, t, width))
        return x + self.narrow(nn.functional.gelu(self.wide(self.norms[1](x))))


def problem(name):
    """Return a model, its input and its classes."""
    if name == "digits":
        return ConvolutionalNet(), torch.randn(64, 1, 28, 28), torch.randint(10, (64,))
    if name == "resnet":
        return (
            ResNet(1, 10, (64, 128, 256, 512), (2, 2, 2, 2)),
            torch.randn(32, 1, 28, 28),
            torch.randint(10, (32,)),
        )
    width = 256
    blocks = nn.Sequential(nn.Embedding(1000, width), *[Block(width) for _ in range(6)])
    head = nn.Sequential(blocks, nn.Linear(width, 1000), nn.Flatten(0, 1))
    return head, torch.randint(1000, (8, 128)), torch.randint(1000, (8 * 128,))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", choices=("digits", "resnet", "gpt"), default="digits")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--run", type=int, default=10000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model, x, y = problem(arguments.model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    chosen = {slug: (slug, {}) for slug in registry.slugs("average")} | EXTRA
    first = arguments.run - arguments.steps
    span = {"collect": (first + 1) / arguments.run, "start": (first + 20) / arguments.run}
    chosen["twa"] = ("twa", {**span, "points": 20})
    averages = {
        name: registry.get(slug).factory(**hyper).attach(model)
        for name, (slug, hyper) in chosen.items()
    }
    for average in averages.values():
        for loss in LOSSES:
            if average.monitors:
                average.evaluated(loss)
    others = {name: [] for name in averages}
    points = {name: [] for name in averages}
    seconds = []
    # What writes back is timed where it writes; the weights matter to nobody here.
    for step in range(first, arguments.run):
        begin = time.perf_counter()
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - begin)
        for name, average in averages.items():
            before = average.count
            begin = time.perf_counter()
            average.update(step, arguments.run)
            took = time.perf_counter() - begin
            (others if average.count == before else points)[name].append(took)
    each = statistics.median(seconds)
    print(
        f"{arguments.model}: {sum(p.numel() for p in model.parameters())} parameters, "
        f"{sum(1 for _ in model.parameters())} tensors, step {1e3 * each:.2f} ms, "
        f"threads {arguments.threads}, last {arguments.steps} of {arguments.run} steps"
    )
    print(f"{'average':26}{'share':>9}{'a point':>10}{'points':>8}")
    for name in averages:
        found = [(statistics.median(x), len(x)) for x in (points[name], others[name]) if x]
        mean = sum(median * count for median, count in found) / len(seconds)
        one = f"{found[0][0] / each:10.2%}" if points[name] else f"{'-':>10}"
        print(f"{name:26}{mean / each:9.2%}{one}{len(points[name]):8}")


if __name__ == "__main__":
    main()
