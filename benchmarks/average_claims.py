"""What averages along a run and merges of fine-tuned runs promise, measured on small digits.

One claim after another, each with a baseline of equal budget and over seeds:

- ``fge``: the ensemble of a run's members beats them, and a run of the same length.
- ``lawa``: the mean of the five latest epochs is ahead of the last iterate all along the run, and
  more so with a high rate that stays than with one that decays.
- ``swalp``: SGD in numbers of few bits is worse than its average in full precision.
- ``aswa``: test errors of several seeds differ less (ASWA, NASWA).
- ``wakd``: the mean of a distilled student's weights is ahead on images unlike those learnt from.
- ``diwa``: so is the mean of fine-tuned runs, against the best run by validation.
- ``warm``: the mean of reward models that learnt from wrong preferences, too, beats its members.

Most train a network of 784-128-128-10 units on digits of the workload ``digits`` and test it on
MNIST's 10,000 test images; some take 4,096 images of Fashion-MNIST, drawn anew for each seed and
tested on the published 10,000, or the workload's own network with batch norm. The peak rate of SGD,
of four, has the least validation error over two seeds that are used for nothing else. Numbers are
means over seeds with Student's 95 % interval, and so are their differences, seed by seed::

    python benchmarks/average_claims.py [fge lawa ...] [--seeds 8]

One core takes about half an hour for all, of which `wakd` takes nine minutes and `fge` five.
"""

import argparse
import dataclasses
import functools
import random
import statistics
import time

import torch
from torch import nn
from torch.nn import functional
from weight_averages_page import interval

from thalweg import train, workload
from thalweg.average import ASWA, FGE, LAWA, NASWA, SWA, WAKD, Ensemble
from thalweg.core.seeds import generator
from thalweg.merge import merge

RATES = (0.01, 0.03, 0.1, 0.3)
FIRST_TUNING_SEED = 1000
CONVOLUTIONS_PEAK = 0.3  # the choice of weight_averages.py for the network of `digits`
EPOCHS = 40
EPOCH = 4000 // 64
LATEST = 5  # epochs that LAWA looks back
PAIRS = 6000  # preferences that reward models learn from
TUNED_FOR = (200, 800)  # their updates: single ones are best at 200, on two seeds of their own
START = 2 / 3  # of SWALP's average, whose rate is a fifth of the peak, as in its paper


def network(width=128, outputs=10):
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, outputs),
    )


@functools.cache
def digits(seed=0):
    del seed
    return dataclasses.replace(workload.load("digits"), model=network)


@functools.cache
def clothes(seed):
    """Return 4,096 images for the seed; the last 5,000 validate, whatever it is."""
    task = workload.load("fmnist-resnet")
    images, labels = task.train
    drawn = torch.randperm(55_000, generator=generator(seed, "images"))[:4096]
    return dataclasses.replace(
        task,
        model=network,
        train=(images[drawn], labels[drawn]),
        validation=(images[55_000:], labels[55_000:]),
        batch_size=64,
    )


TASKS = {
    "digits": (digits, lambda: unlike()["as learnt"]),
    "clothes": (clothes, lambda: workload.load("fmnist-resnet").validation),
}


@functools.cache
def tested():
    """Return the test images, from 0 to 1, with their labels."""
    images, labels = workload.load("digits-vit").validation
    return (images - images.min()) / (images.max() - images.min()), labels


def shaded(images):
    """Return images from 0 to 1 in the workload's shades."""
    black, white = digits().train[0].min(), digits().train[0].max()
    return black + images * (white - black)


@functools.cache
def unlike():
    """Return test sets by what was done to their images; the first is as it was."""
    images, labels = tested()
    chance = generator(0, "unlike")
    moves = torch.randint(-1, 2, (len(images), 2), generator=chance) * 2
    moved = torch.stack(
        [
            functional.pad(x, (2, 2, 2, 2))[:, 2 - a : 30 - a, 2 - b : 30 - b]
            for x, (a, b) in zip(images, moves.tolist(), strict=True)
        ]
    )
    noisy = images + 0.4 * torch.randn(images.shape, generator=chance)
    line = torch.exp(-0.5 * (torch.arange(-4, 5) / 1.5) ** 2)
    line = line / line.sum()
    blurred = functional.conv2d(images, line.outer(line)[None, None], padding=4)
    angle = torch.deg2rad(25 * (2.0 * torch.randint(0, 2, (len(images),), generator=chance) - 1))
    zero = torch.zeros_like(angle)
    turn = torch.stack([angle.cos(), -angle.sin(), zero, angle.sin(), angle.cos(), zero], 1)
    grid = functional.affine_grid(turn.view(-1, 2, 3), list(images.shape), align_corners=False)
    turned = functional.grid_sample(images, grid, align_corners=False)
    sets = {
        "as learnt": images,
        "shifted": moved,
        "noisy": noisy.clamp(0, 1),
        "blurred": blurred,
        "turned": turned,
    }
    return {name: (shaded(x), labels) for name, x in sets.items()}


def placed(weights, model=network):
    made = model()
    made.load_state_dict(weights)
    return made.eval()


@torch.no_grad()
def error(model, data=None):
    """Return the error in percent, on the test images unless others are given."""
    images, labels = unlike()["as learnt"] if data is None else data
    return 100 * (model(images).argmax(1) != labels).double().mean().item()


def errors(model):
    """Return errors on the test images, on each set unlike them, and the mean of the latter."""
    found = [error(model, data) for data in unlike().values()]
    return [*found, statistics.fmean(found[1:])]


def fit(task, recipe, steps, seed, *callbacks, every=None):
    result = train.fit(
        task,
        recipe,
        steps=steps,
        seed=seed,
        evaluate_every=every or steps,
        callbacks=callbacks,
        threads=1,
    )
    if result.status != "ok":
        raise SystemExit(f"{recipe}, seed {seed}: {result.status}, {result.error}")
    return result


def sgd(rate):
    return f"sgd(lr={rate}, momentum=0.9, weight_decay=5e-4)"


DECAYING = "swa-constant(start=1, rate=0.01)"


@functools.cache
def peak(name):
    """Return the rate of the least validation error of SGD whose rate falls to 1 %."""
    found = {}
    for rate in RATES:
        metrics = []
        for seed in (FIRST_TUNING_SEED, FIRST_TUNING_SEED + 1):
            task = TASKS[name][0](seed)
            result = train.fit(
                task,
                f"{sgd(rate)} + {DECAYING}",
                steps=EPOCHS * EPOCH,
                seed=seed,
                evaluate_every=EPOCHS * EPOCH,
                threads=1,
            )
            metrics.append(result.final_metric or 0.1)  # a diverged run is no better than a guess
        found[rate] = 100 * (1 - statistics.fmean(metrics))
    best = min(found, key=found.get)
    shown = ", ".join(f"{value:.2f} with {rate}" for rate, value in found.items())
    print(f"{name}: validation error of SGD, %, by peak rate: {shown}; {best} is taken", flush=True)
    return best


def cell(values, digits=2, sign=""):
    mean, half = interval(values)
    return f"{mean:{sign}.{digits}f} ± {half:.{digits}f}"


def show(title, heading, rows):
    rows = [["", *heading], *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    print(f"\n{title}")
    for row in rows:
        print("  ".join(c.ljust(width) for c, width in zip(row, widths, strict=True)).rstrip())
    print(flush=True)


def compared(title, found, which, base, quantities=("test error, %",)):
    """Print each row's quantities over seeds, and how much those of one row exceed them.

    Args:
        title: of the table.
        found: for each seed, a list of numbers, or one, by row.
        which: the quantities, by place, that are compared.
        base: the row whose differences from all others are shown.
        quantities: their names.
    """
    found = [{k: v if isinstance(v, list) else [v] for k, v in row.items()} for row in found]
    rows = []
    for name in found[0]:
        columns = list(zip(*(row[name] for row in found), strict=True))
        cells = [cell(values) for values in columns]
        for place in which:
            less = [row[base][place] - row[name][place] for row in found]
            below, above = sum(x < 0 for x in less), sum(x > 0 for x in less)
            cells += ["", ""] if name == base else [cell(less, sign="+"), f"{below} : {above}"]
        rows.append([name, *cells])
    heading = list(quantities)
    for place in which:
        heading += [f"{base}, minus this: {quantities[place]}", "lower : higher"]
    show(f"{title}, {len(found)} seeds", heading, rows)


def fge(seeds):
    """Four cycles of two epochs in the last third of the run, members at a tenth of the peak."""
    epochs, start = 24, 2 / 3
    own = workload.load("digits")
    for name, model in (("digits", network), ("clothes", network), ("digits", own.model)):
        of, test = TASKS[name]
        rate = sgd(peak(name) if model is network else CONVOLUTIONS_PEAK)
        found = []
        for seed in seeds if model is network else seeds[:5]:
            task = dataclasses.replace(of(seed), model=model)
            plain = fit(task, f"{rate} + {DECAYING}", epochs * EPOCH, seed)
            follow = train.FollowAverages({"fge": FGE(start, cycles=4)})
            cycles = f"triangular(start={start}, cycles=4, high=0.5, low=0.1)"
            fit(task, f"{rate} + {cycles}", epochs * EPOCH, seed, follow)
            members = list(follow.running["fge"].members())
            each = [error(placed(x, model), test()) for x in members]
            found.append(
                {
                    "ensemble": error(Ensemble(model(), members).eval(), test()),
                    "its members, mean": statistics.fmean(each),
                    "its best member, by test error": min(each),
                    "SGD, rate decays": error(placed(plain.weights, model), test()),
                }
            )
        what = "" if model is network else ", the workload's convolutions"
        compared(f"fge, {name}{what}", found, (0,), "ensemble")


class Curve(train.Callback):
    """Notes test errors of the run's weights and of an average of it after every epoch."""

    def __init__(self, average):
        self._settings, self.last, self.average = average, [], []

    def on_start(self, run):
        self._running = self._settings.attach(run.model)

    def on_step(self, run, step, loss):
        del loss
        self._running.update(step - 1, run.settings.steps)
        if step % EPOCH == 0:
            self.last.append(error(run.model))
            with self._running.applied(run.model):
                self.average.append(error(run.model))


def lawa(seeds):
    """Twenty epochs at three rates that stay, and at one that decays."""
    epochs, rows = 20, []
    for name, rate, schedule in (
        ("a tenth of the peak rate, constant", peak("digits") / 10, "constant"),
        ("a third of the peak rate, constant", peak("digits") / 3, "constant"),
        ("the peak rate, constant", peak("digits"), "constant"),
        ("the peak rate, cosine to zero", peak("digits"), "cosine"),
    ):
        curves = []
        for seed in seeds:
            curves.append(Curve(LAWA(LATEST, every=EPOCH)))
            fit(digits(), f"{sgd(rate)} + {schedule}", epochs * EPOCH, seed, curves[-1])
        # After the first epoch both are the same.
        along = [(statistics.fmean(c.last[1:]), statistics.fmean(c.average[1:])) for c in curves]
        ends = [(c.last[-1], c.average[-1]) for c in curves]
        ahead = [sum(a < b for a, b in zip(c.average[1:], c.last[1:], strict=True)) for c in curves]
        cells = []
        for pairs in (along, ends):
            cells += [cell([pair[i] for pair in pairs]) for i in (0, 1)]
            cells.append(cell([b - a for a, b in pairs], sign="+"))
        rows.append([name, *cells, f"{statistics.fmean(ahead):.1f}"])
    heading = ["curve: last", "curve: LAWA", "difference", "end: last", "end: LAWA", "difference"]
    title = (
        f"lawa, test error, %, mean over epochs 2 to {epochs} and at the end, {len(seeds)} seeds"
    )
    show(title, [*heading, f"epochs ahead of {epochs - 1}"], rows)


def swalp(seeds):
    """Rates as in the paper: to 1 % without an average; to 1 %, then a fifth of the peak, with."""
    epochs = 10
    for name, widths in (("digits", (8, 5)), ("clothes", (8,))):
        of, test = TASKS[name]
        found = []
        for seed in seeds:
            row = {}
            for bits in (*widths, 32):
                rate = sgd(peak(name)) + (f" + low-precision(bits={bits})" if bits < 32 else "")
                plain = fit(of(seed), f"{rate} + {DECAYING}", epochs * EPOCH, seed)
                follow = train.FollowAverages({"swa": SWA(START, every=10)})
                before = 0.01 if bits < 32 else 0.2
                high = f"swa-constant(start={START}, rate=0.2, before={before})"
                last = fit(of(seed), f"{rate} + {high}", epochs * EPOCH, seed, follow)
                average = placed(follow.running["swa"].weights())
                row[f"average, {bits} bits"] = error(average, test())
                row[f"{bits} bits, under the average"] = error(placed(last.weights), test())
                row[f"SGD, {bits} bits, rate decays"] = error(placed(plain.weights), test())
            found.append(row)
        for bits in widths:
            shown = [
                {key: x for key, x in row.items() if f"{bits} bits" in key or "32 bits" in key}
                for row in found
            ]
            compared(f"swalp, {name}, {bits} bits", shown, (0,), f"average, {bits} bits")


class Epochs(train.Callback):
    """Keeps validation loss and weights of every evaluation."""

    def __init__(self):
        self.points = []

    def on_evaluate(self, run, point):
        del point
        weights = {name: x.clone() for name, x in run.model.state_dict().items()}
        self.points.append((run.validation_loss(), weights))


def aswa(seeds):
    """The same 300 images for all seeds, Adam with AMSGrad as in the authors' code."""
    images, labels = digits().train
    chance = generator(0, "aswa")
    order = torch.randperm(len(labels), generator=chance)
    wrong = (labels + torch.randint(1, 10, labels.shape, generator=chance)) % 10
    for share in (0.0, 0.2):
        given = torch.where(torch.rand(len(labels), generator=chance) < share, wrong, labels)
        chosen, other = order[:300], order[300:500]
        task = dataclasses.replace(
            digits(),
            train=(images[chosen], given[chosen]),
            validation=(images[other], given[other]),
            batch_size=16,
        )
        found = {}
        for seed in seeds:
            epochs, follow = Epochs(), train.FollowAverages({"ASWA": ASWA(), "NASWA": NASWA()})
            recipe = "amsgrad(lr=1e-3, weight_decay=1e-5)"
            result = fit(task, recipe, 20 * 18, seed, epochs, follow, every=18)
            best = min(epochs.points, key=lambda pair: pair[0])[1]
            for name, weights in (
                ("last epoch", result.weights),
                ("epoch of the least validation loss", best),
                *((key, x.weights()) for key, x in follow.running.items()),
            ):
                found.setdefault(name, []).append(error(placed(weights)))
        rows = []
        for name, values in found.items():
            cells = [cell(values), f"{statistics.stdev(values):.3f}"]
            for base in ("last epoch", "epoch of the least validation loss"):
                cells.append("" if name == base else ratio(values, found[base]))
            rows.append([name, *cells])
        show(
            f"aswa, {share:.0%} of the labels wrong, {len(seeds)} seeds",
            ["test error, %", "deviation over seeds", "over last epoch's", "over the chosen's"],
            rows,
        )


def ratio(values, others):
    """Return the ratio of two deviations, with the bootstrap's 95 % interval over seeds."""
    chance, found = random.Random(0), []
    for _ in range(10_000):
        drawn = chance.choices(range(len(values)), k=len(values))
        below = statistics.pstdev([others[i] for i in drawn])
        if below:
            found.append(statistics.pstdev([values[i] for i in drawn]) / below)
    found.sort()
    low, high = found[len(found) // 40], found[-len(found) // 40 - 1]
    return f"{statistics.stdev(values) / statistics.stdev(others):.2f} [{low:.2f}, {high:.2f}]"


STUDENTS = {"wide teacher": 6, "the workload's convolutions": 5}  # and seeds


def wakd(seeds):
    """Teachers are trained with SWAD.

    A student of 128 units a layer learns from one of 512, and the network of `digits` from one of
    its own kind, with batch norm.
    """
    for name, most in STUDENTS.items():
        dense = name == "wide teacher"
        student = network if dense else workload.load("digits").model
        large = functools.partial(network, 512) if dense else student
        epochs = EPOCHS if dense else EPOCHS // 2
        found = []
        for seed in seeds[:most]:
            task = dataclasses.replace(digits(), model=large)
            taught = fit(task, "adam(lr=1e-3) + swad", 20 * EPOCH, seed, every=EPOCH // 2)
            teacher = placed(taught.weights, large)
            loss = workload.Distillation(teacher, freeze_batch_norm=False)
            task = dataclasses.replace(digits(), model=student, loss=loss)
            follow = train.FollowAverages({"wakd": WAKD()})
            last = fit(task, "adam(lr=1e-3)", epochs * EPOCH, seed, follow)
            decayed = fit(task, "adam(lr=1e-3) + cosine", epochs * EPOCH, seed)
            average = last.weights | follow.running["wakd"].weights()
            found.append(
                {
                    "student's average": errors(placed(average, student)),
                    "student, last iterate": errors(placed(last.weights, student)),
                    "student, rate decays": errors(placed(decayed.weights, student)),
                    "teacher": errors(teacher),
                }
            )
        quantities = [*unlike(), "mean unlike"]
        compared(f"wakd, {name}, test error, %", found, (0, -1), "student's average", quantities)


def started(weights, model=network):
    return lambda: placed(weights, model).train()


def probed(weights, model=network):
    """Return a model of these weights, but for the last layer, the only one that is trained."""

    def make():
        made = model()
        own = made.state_dict()
        made.load_state_dict(own | {k: x for k, x in weights.items() if k[0] != "5"})
        for name, p in made.named_parameters():
            p.requires_grad_(name[0] == "5")
        return made

    return make


def diwa(seeds):
    """Twelve runs a seed, pretrained on clothes, head trained first, mild settings by chance.

    Rates differ by up to four times, or, to see what they do, not at all; weight decay, batch size
    and order of images differ in both.
    """
    images, labels = digits().train
    clothing = workload.load("fmnist-resnet").train
    found = {"rates differ": [], "one rate": []}
    for seed in seeds:
        drawn = torch.randperm(55_000, generator=generator(seed, "clothes"))[:8192]
        base = dataclasses.replace(digits(), train=tuple(x[drawn] for x in clothing))
        pretrained = fit(base, "adam(lr=1e-3) + cosine", 10 * 128, seed).weights
        known = torch.randperm(len(labels), generator=generator(seed, "known"))[:2000]
        task = dataclasses.replace(digits(), train=(images[known], labels[known]))
        head = dataclasses.replace(task, model=probed(pretrained))
        start = fit(head, "adam(lr=1e-3)", 310, seed).weights

        def score(weights):
            return -error(placed(weights), digits().validation)

        for name, rows in found.items():
            chance, runs = random.Random(seed), []
            for run in range(12):
                lr = chance.choice((5e-4, 1e-3, 2e-3)) if name == "rates differ" else 1e-3
                decay = chance.choice((1e-6, 1e-4, 1e-2))
                size = chance.choice((32, 48, 64))
                own = dataclasses.replace(task, model=started(start), batch_size=size)
                recipe = f"adamw(lr={lr}, weight_decay={decay})"
                runs.append(fit(own, recipe, 400, 100 * (seed + 1) + run).weights)
            each = [errors(placed(x)) for x in runs]
            best = max(range(len(runs)), key=lambda i: score(runs[i]))
            restricted = merge("diwa(selection='restricted')", runs, score=score)
            rows.append(
                {
                    "diwa": errors(placed(merge("diwa", runs))),
                    "diwa(selection='restricted')": errors(placed(restricted)),
                    "best run by validation": each[best],
                    "runs, mean": [statistics.fmean(x) for x in zip(*each, strict=True)],
                    "ensemble of outputs": errors(Ensemble(network(), runs)),
                }
            )
    for name, rows in found.items():
        quantities = [*unlike(), "mean unlike"]
        compared(f"diwa, {name}, test error, %", rows, (0, -1), "diwa", quantities)


def preference(model, batch):
    """Return Bradley and Terry's loss: the first image of each pair is the preferred one."""
    better, worse = batch
    rewards = model(torch.cat((better, worse))).squeeze(1)
    return functional.softplus(rewards[len(better) :] - rewards[: len(better)]).mean()


@torch.no_grad()
def agreeing(model, pairs):
    """Return for each pair 1 if the first image has the higher reward, else 0."""
    return (model(pairs[0]) > model(pairs[1])).squeeze(1).float()


def warm(seeds):
    """Six reward models a seed that prefer the larger digit, a quarter of the pairs flipped.

    They start from a classifier of 1,000 other images, its head trained first.
    """
    images, labels = digits().train
    reward = functools.partial(network, outputs=1)

    def pairs(of, count, *stream):
        i, j = torch.randint(len(of), (2, 2 * count), generator=generator(*stream))
        i, j = (x[of[i] != of[j]][:count] for x in (i, j))
        return torch.where(of[i] > of[j], i, j), torch.where(of[i] > of[j], j, i)

    test, test_labels = unlike()["as learnt"]
    clean = tuple(test[x] for x in pairs(test_labels, 10_000, 0, "clean"))
    found = {updates: [] for updates in TUNED_FOR}
    for seed in seeds:
        order = torch.randperm(len(labels), generator=generator(seed, "order"))
        first = dataclasses.replace(digits(), train=(images[order[:1000]], labels[order[:1000]]))
        supervised = fit(first, "adam(lr=1e-3)", 300, seed).weights
        images_, labels_ = images[order[1000:]], labels[order[1000:]]
        better, worse = (images_[x] for x in pairs(labels_, PAIRS, seed, "pairs"))
        flipped = torch.rand(PAIRS, generator=generator(seed, "flipped")) < 0.25
        at = flipped.view(-1, 1, 1, 1)
        given = torch.where(at, worse, better), torch.where(at, better, worse)
        task = dataclasses.replace(
            digits(),
            model=probed(supervised, reward),
            train=given,
            validation=given,
            loss=preference,
            metric=agreeing,
        )
        start = fit(task, "adam(lr=1e-3)", 300, seed).weights
        own = dataclasses.replace(task, model=started(start, reward))

        def measured(model, given=given, flipped=flipped):
            fitted = agreeing(model, given)
            return [
                100 * x.mean().item()
                for x in (agreeing(model, clean), fitted[flipped], fitted[~flipped])
            ]

        for updates, rows in found.items():
            members = [
                fit(own, f"adam(lr={lr})", updates, 100 * (seed + 1) + run).weights
                for run, lr in enumerate((5e-4, 1e-3, 2e-3) * 2)
            ]
            each = [measured(placed(x, reward)) for x in members]
            rows.append(
                {
                    "warm": measured(placed(merge("warm", members), reward)),
                    "members, mean": [statistics.fmean(x) for x in zip(*each, strict=True)],
                    "best member, by clean pairs": max(each),
                    "ensemble of rewards": measured(Ensemble(reward(), members, "values")),
                    "the shared start": measured(placed(start, reward)),
                }
            )
    quantities = ["clean pairs right, %", "flipped fitted, %", "others fitted, %"]
    for updates, rows in found.items():
        compared(f"warm, {updates} updates", rows, (0, 1), "warm", quantities)


CLAIMS = {
    "fge": (fge, 8),
    "lawa": (lawa, 6),
    "swalp": (swalp, 5),
    "aswa": (aswa, 30),
    "wakd": (wakd, 8),
    "diwa": (diwa, 8),
    "warm": (warm, 8),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("claims", nargs="*", help=f"of {', '.join(CLAIMS)}; all unless given")
    parser.add_argument("--seeds", type=int, help="of each claim, fewer where one takes long")
    arguments = parser.parse_args()
    for name in arguments.claims or CLAIMS:
        measure, seeds = CLAIMS[name]
        begin = time.process_time()
        measure(range(arguments.seeds or seeds))
        print(f"{name}: {time.process_time() - begin:.0f} CPU seconds", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
