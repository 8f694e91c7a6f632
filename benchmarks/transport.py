"""Fusion by optimal transport and REPAIR on real digits, beside plain and zero-padded averages.

Networks that were trained apart, from other initialisations and in other orders of the digits of
the workload of that name, are averaged at equal weights: as they are, after weight matching, and
after optimal transport by weights and by activations of 200 samples before the nonlinearity; each
with batch-norm statistics recomputed, and with REPAIR. Then a network and one of half its width,
both ways; there the plain average is that of the wider one with the narrower one, whose missing
units are zeros, or of the narrower one with the first units of the wider. Nets: an MLP
784-400-200-100-10 (the paper's) and 784-256x3-10, a convolutional and a residual net, both with
batch norm. Last, two MLPs of which one knows the digit 4 almost alone and the other all digits but
4 (the paper's skill transfer). Test accuracy, and loss at the middle above the mean of the ends;
means over seeds and, in brackets, their range::

    python benchmarks/transport.py [--nets mlp conv] [--seeds 3]
"""

import argparse
import statistics
import time

import torch
from torch import nn
from torch.nn import functional

from thalweg import workload
from thalweg.landscape import Objective
from thalweg.merge import Ensemble, merge
from thalweg.merge.permutations.discover import discover
from thalweg.merge.permutations.merges import reset
from thalweg.merge.permutations.plans import TransportSettings
from thalweg.merge.permutations.repair import preactivations, repair
from thalweg.merge.permutations.transport import fuse, transport
from thalweg.merge.permutations.weight_matching import weight_matching

KNOWN = 1000  # training samples for batch-norm statistics and REPAIR
COMPARED = 200  # of them, on which activations are compared
BY = {
    "weights": TransportSettings(),
    "weights, Sinkhorn 0.02": TransportSettings(solver="sinkhorn", reg=0.02),
    "activations": TransportSettings(by="activations"),
}


class Residual(nn.Module):
    """A stem and two residual blocks, the second of half the resolution."""

    def __init__(self, width, wider):
        super().__init__()

        def conv(i, o, size=3, stride=1):
            layer = nn.Conv2d(i, o, size, stride, size // 2, bias=False)
            return nn.Sequential(layer, nn.BatchNorm2d(o))

        self.stem = conv(1, width, stride=2)
        self.a, self.b = conv(width, width), conv(width, width)
        self.c, self.d = conv(width, wider, stride=2), conv(wider, wider)
        self.shortcut = conv(width, wider, 1, stride=2)
        self.head = nn.Linear(wider, 10)

    def forward(self, x):
        x = self.stem(x).relu()
        x = (x + self.b(self.a(x).relu())).relu()
        x = (self.shortcut(x) + self.d(self.c(x).relu())).relu()
        return self.head(x.mean((2, 3)))


def mlp(*widths):
    layers = [nn.Flatten()]
    for i, o in zip((784, *widths), widths, strict=False):
        layers += [nn.Linear(i, o), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 10))


def conv(one, two):
    return nn.Sequential(
        nn.Conv2d(1, one, 3, 2, 1),
        nn.BatchNorm2d(one),
        nn.ReLU(),
        nn.Conv2d(one, two, 3, 2, 1),
        nn.BatchNorm2d(two),
        nn.ReLU(),
        nn.Conv2d(two, two, 3, 1, 1),
        nn.BatchNorm2d(two),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(two, 10),
    )


NETS = {
    "mlp": (lambda: mlp(400, 200, 100), lambda: mlp(200, 100, 50)),
    "mlp256": (lambda: mlp(256, 256, 256), lambda: mlp(128, 128, 128)),
    "conv": (lambda: conv(32, 64), lambda: conv(16, 32)),
    "residual": (lambda: Residual(32, 64), lambda: Residual(16, 32)),
}


def loss(model, batch):
    return functional.cross_entropy(model(batch[0]), batch[1])


def digits():
    """Return training and test data, the training data in a random order: it comes by class."""
    data = workload.load("digits")
    sets = [s[:2] for s in (data.train, data.validation)]
    found = [(torch.as_tensor(x).float(), torch.as_tensor(y).long()) for x, y in sets]
    order = torch.randperm(len(found[0][0]), generator=torch.Generator().manual_seed(0))
    return (found[0][0][order], found[0][1][order]), found[1]


def train(make, images, labels, seed, epochs=15):
    torch.manual_seed(seed)
    model = make()
    steps = epochs * -(-len(images) // 64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            loss(model, (images[batch], labels[batch])).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


class Judge:
    """Tells accuracy and loss of networks, and fills a table with them."""

    def __init__(self, train_data, test_data):
        self._test = test_data
        self._known = list(zip(*(x[:KNOWN].split(250) for x in train_data), strict=True))
        self.example = train_data[0][:COMPARED]
        self.rows = {}

    @torch.no_grad()
    def of(self, model):
        out = model(self._test[0])
        right = (out.argmax(1) == self._test[1]).double().mean().item()
        return right, functional.cross_entropy(out, self._test[1]).item()

    def objective(self, model):
        return Objective(model, loss, self._known[:1], calibration=self._known)

    def ends(self, *models):
        self._between = statistics.fmean(self.of(model)[1] for model in models)

    def put(self, name, model):
        right, value = self.of(model)
        self.rows[name] = (right, value - self._between)

    def merged(self, name, model, weights, ends=None):
        """Put a merge with batch-norm statistics recomputed, and repaired if ends are given."""
        objective = self.objective(model)
        model.load_state_dict(reset(objective, weights))
        self.put(name, model)
        if ends is not None:
            model.load_state_dict(repair(objective, weights, ends))
            self.put(f"{name}, REPAIR", model)


def same_width(make, judge, data, seed):
    one, other = (train(make, *data, 2 * seed + place) for place in (0, 1))
    runner = make().eval()
    judge.ends(one, other)
    judge.put("one end", one)
    judge.put("other end", other)
    judge.put("ensemble", Ensemble(runner, [one.state_dict(), other.state_dict()]))
    moments = [preactivations(judge.objective(model)) for model in (one, other)]
    judge.merged("plain average", runner, merge("model-soups", [one, other]), moments)
    structure = discover(one, judge.example)
    matching = weight_matching(structure, one.state_dict(), other.state_dict())
    matched = structure.apply(other.state_dict(), matching.permutations)
    own = [moments[0], preactivations(judge.objective(other), matched)]
    judge.merged("weight matching", runner, merge("model-soups", [one.state_dict(), matched]), own)
    for name, settings in BY.items():
        transported(f"OT, {name}", one, other, moments, runner, judge, settings)


def transported(name, one, other, moments, runner, judge, settings):
    carried = transport(one, other, judge.example, settings).moments(moments[0])
    fused = fuse([one, other], judge.example, settings=settings)
    judge.merged(name, runner, fused, [carried, moments[1]])


def widths(makes, judge, data, seed):
    wide, narrow = (train(make, *data, 2 * seed + place) for place, make in enumerate(makes))
    judge.ends(wide, narrow)
    judge.put("wide end", wide)
    judge.put("narrow end", narrow)
    for what, pair, make in (
        ("narrow", (wide, narrow), makes[1]),
        ("wide", (narrow, wide), makes[0]),
    ):
        runner = make().eval()
        shapes = pair[1].state_dict()
        cut = {n: fitted(x, shapes[n].shape) for n, x in pair[0].state_dict().items()}
        judge.merged(f"into {what}: zeros, cut", runner, merge("model-soups", [cut, shapes]))
        moments = [preactivations(judge.objective(model)) for model in pair]
        for by in ("weights", "activations"):
            for marginals in ("proper", "constant"):
                settings = TransportSettings(by=by, marginals=marginals)
                name = f"into {what}: OT, {by}, {marginals}"
                transported(name, *pair, moments, runner, judge, settings)


def fitted(x, shape):
    """Return the tensor cut, or filled up with zeros, to a shape."""
    result = x.new_zeros(shape)
    corner = tuple(slice(min(m, n)) for m, n in zip(x.shape, shape, strict=True))
    result[corner] = x[corner]
    return result


def skills(judge, data, seed):
    """Put fusions of a network that knows 4 almost alone with one that knows all but 4."""
    images, labels = data
    four = labels == 4
    some = torch.rand(len(labels), generator=torch.Generator().manual_seed(seed)) < 0.1
    make = NETS["mlp"][0]
    special = train(make, images[four | some], labels[four | some], 2 * seed)
    general = train(make, images[~four & ~some], labels[~four & ~some], 2 * seed + 1)
    judge.ends(special, general)
    judge.put("knows 4 and a tenth of the rest", special)
    judge.put("knows the rest", general)
    runner = make().eval()
    judge.put("ensemble", Ensemble(runner, [special.state_dict(), general.state_dict()]))
    for share in (0.3, 0.5, 0.7):
        weights = (1 - share, share)
        plain = merge(f"model-soups(weights={weights})", [special, general])
        judge.merged(f"plain average, {share} of the general", runner, plain)
        for by, settings in BY.items():
            if settings.solver == "exact":
                fused = fuse([special, general], judge.example, weights=weights, settings=settings)
                judge.merged(f"OT, {by}, {share} of the general", runner, fused)


def table(title, rows):
    print(f"\n{title}\n{'':42} {'test accuracy':>22} {'loss above the ends':>26}", flush=True)
    for name in rows[0]:
        right, above = zip(*(row[name] for row in rows), strict=True)
        print(
            f"{name:42} {statistics.fmean(right):.3f} [{min(right):.3f}, {max(right):.3f}]"
            f" {statistics.fmean(above):9.3f} [{min(above):.3f}, {max(above):.3f}]",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nets", nargs="*", choices=NETS, default=list(NETS))
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    begin = time.perf_counter()
    data, test = digits()

    def over_seeds(run):
        found = []
        for seed in range(asked.seeds):
            judge = Judge(data, test)
            run(judge, seed)
            found.append(judge.rows)
        return found

    for name in asked.nets:
        makes = NETS[name]
        table(
            f"{name}: equal widths",
            over_seeds(lambda judge, seed: same_width(makes[0], judge, data, seed)),  # noqa: B023
        )
        table(
            f"{name}: a network and one of half its width",
            over_seeds(lambda judge, seed: widths(makes, judge, data, seed)),  # noqa: B023
        )
    if "mlp" in asked.nets:
        table("mlp: skills", over_seeds(lambda judge, seed: skills(judge, data, seed)))
    print(f"{time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
