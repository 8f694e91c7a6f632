"""SWA against SGD at equal budget, and EMA, LAWA, Switch EMA and SWAG beside it, over seeds.

Two tasks: the 4,000 digits of the workload `digits`, tested on MNIST's 10,000 test images, and
4,096 images of Fashion-MNIST, drawn anew for each seed, with the residual network of
`fmnist-resnet`, tested on the published 10,000. A seed has the same weights, images and order of
images in all of its runs:

- SGD with momentum 0.9 and weight decay 5e-4, whose rate falls to 1 % (the baseline of Izmailov et
  al., 2018, arXiv 1803.05407),
- SGD whose rate falls to half and stays from three quarters of the run on (SWA's schedule there),
- SGD as the first with Switch EMA.

EMA and LAWA follow the first two, SWA and SWAG the second. SGD's peak rate, and after it the decay
of Switch EMA, have the least validation error over seeds that are used for nothing else; SWA takes
SGD's rate. Batch norm is recalibrated on all training images wherever an average says that it
needs it. Prints a table for each task, and writes it, every number and the figure for the page
into ``--page``. Finished runs stay in ``--out``, and the same command goes on from there::

    python benchmarks/weight_averages.py [--seeds 8 10] [--epochs 40 24] [--out DIR] [--page docs]

One core takes about half an hour.
"""

import argparse
import csv
import dataclasses
import json
import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from weight_averages_page import QUANTITIES, draw, summary, table

from thalweg import landscape, train, workload
from thalweg.average import EMA, LAWA, SWA, SWAG, Ensemble, recalibrate_batch_norm
from thalweg.core.seeds import generator

RATES = (0.03, 0.1, 0.3, 1.0)
DECAYS = (0.9, 0.99)
START = 0.75  # of SWA's schedule, and its rate is half of the peak, as in the paper
LATEST = 5  # epochs that LAWA and EMA look back
FIRST_TUNING_SEED = 1000


@dataclass(frozen=True)
class Task:
    """What is trained: ``of(seed)`` gives a workload, whose validation data rates are chosen on.

    ``mixed(workload)`` gives its training images in an order that says nothing of their classes.
    """

    of: object
    mixed: object
    test: tuple
    seeds: int
    epochs: int
    tuning_seeds: int
    samples: int  # of SWAG
    line_seeds: int


def digits():
    """The test images are MNIST's, shaded as the workload's: black and white are in both sets."""
    task, mnist = workload.load("digits"), workload.load("digits-vit")
    # The images are sorted by class, which batches for batch norm must not be.
    order = torch.randperm(len(task.train[1]), generator=generator(0, "digits", "order"))
    mixed = tuple(x[order] for x in task.train)
    images, labels = mnist.validation
    black, white = task.train[0].min(), task.train[0].max()
    share = (images - images.min()) / (images.max() - images.min())
    test = (black + share * (white - black), labels)
    return Task(lambda seed: task, lambda data: mixed, test, 8, 40, 2, samples=10, line_seeds=4)


def fashion():
    task = workload.load("fmnist-resnet")
    images, labels = task.train

    def of(seed):
        # The last 5,000 are for validation, whatever the seed.
        chosen = torch.randperm(55_000, generator=generator(seed, "images"))[:4096]
        return dataclasses.replace(
            task,
            train=(images[chosen], labels[chosen]),
            validation=(images[55_000:], labels[55_000:]),
            batch_size=64,
        )

    return Task(of, lambda data: data.train, task.validation, 10, 24, 2, samples=10, line_seeds=4)


TASKS = {"digits": digits, "fashion": fashion}


def batches(data, size=500):
    return list(zip(*(x.split(size) for x in data), strict=True))


@torch.no_grad()
def loss_and_error(model, data):
    """Return mean loss and error in percent."""
    model.eval()
    loss = wrong = 0.0
    for images, labels in batches(data):
        logits = model(images)
        loss += torch.nn.functional.cross_entropy(logits, labels, reduction="sum").item()
        wrong += (logits.argmax(1) != labels).sum().item()
    return loss / len(data[1]), 100 * wrong / len(data[1])


def measured(model, task, test):
    return dict(zip(QUANTITIES, (*loss_and_error(model, task.train),
                                 *loss_and_error(model, test)), strict=True))  # fmt: skip


def placed(data, weights, known=None):
    """Return the model at these weights, with batch-norm statistics of known images if given."""
    model = data.model()
    model.load_state_dict(weights, strict=known is None)
    if known is not None:
        recalibrate_batch_norm(model, batches(known), data.loss)
    return model


def once(file, compute, *given):
    """Return what the file holds, or compute it and put it there."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        written = file.with_suffix(".part")
        written.write_text(json.dumps(compute(*given), indent=1))
        written.replace(file)
    return json.loads(file.read_text())


def fit(task, epochs, seed, lr, more, callbacks=()):
    steps = epochs * (len(task.train[1]) // task.batch_size)
    recipe = f"sgd(lr={lr}, momentum=0.9, weight_decay=5e-4) + {more}"
    result = train.fit(
        task, recipe, steps=steps, seed=seed, evaluate_every=steps, callbacks=callbacks, threads=1
    )
    return recipe, result


DECAYING = "swa-constant(start=1, rate=0.01)"
HIGH = f"swa-constant(start={START}, rate=0.5)"


def switching(task, decay):
    return f"{DECAYING} + switch-ema({decay}, interval={len(task.train[1]) // task.batch_size})"


def chosen(task, epochs, folder):
    """Return validation errors by rate, then by decay, as chosen over the tuning seeds."""
    seeds = range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + task.tuning_seeds)

    def errors(name, lr, more):
        def one(seed):
            data = task.of(seed)
            _, result = fit(data, epochs, seed, lr, more(data))
            # A diverged run is no better than a guess.
            return 90.0 if result.final_metric is None else 100 * (1 - result.final_metric)

        return statistics.fmean(
            once(folder / "tuning" / f"{name}-{seed}.json", one, seed) for seed in seeds
        )

    by_rate = {lr: errors(f"lr-{lr}", lr, lambda data: DECAYING) for lr in RATES}
    lr = min(by_rate, key=by_rate.get)
    by_decay = {
        decay: errors(
            f"lr-{lr}-decay-{decay}", lr, lambda data, decay=decay: switching(data, decay)
        )
        for decay in DECAYS
    }
    return by_rate, lr, by_decay, min(by_decay, key=by_decay.get)


def one_seed(task, epochs, seed, lr, decay, folder):
    """Train the runs of a seed; return every method's losses and errors by name."""
    data = task.of(seed)
    known = task.mixed(data)
    epoch = len(data.train[1]) // data.batch_size
    looking_back = {
        "ema": EMA(1 - 1 / (LATEST * epoch)),
        "lawa": LAWA(LATEST, every=epoch),
    }
    at_the_end = {"swa": SWA(START, every=epoch), "swag": SWAG(START, every=epoch)}
    found, recipes, points = {}, {}, {}
    for name, more, averages in (
        ("sgd", DECAYING, looking_back),
        ("high", HIGH, {**looking_back, **at_the_end}),
        ("switch-ema", switching(data, decay), {}),
    ):
        follow = train.FollowAverages(averages)
        recipes[name], result = fit(data, epochs, seed, lr, more, [follow])
        if result.status != "ok":
            raise SystemExit(f"{name}, seed {seed}: {result.status}, {result.error}")
        found[name] = measured(placed(data, result.weights), data, task.test)
        points[name] = result.weights
        for key, average in follow.running.items():
            calibrate = known if average.needs_recalibration else None
            if key == "swag":
                random = generator(seed, "swag")
                members = []
                for _ in range(task.samples):
                    model = placed(data, average.sample(random), known)
                    members.append(model.state_dict())
                model = Ensemble(model, members)
            else:
                model = placed(data, average.weights(), calibrate)
                points[key] = model.state_dict()
            found[key if key in at_the_end else f"{name}-{key}"] = measured(model, data, task.test)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("sgd", "swa"):
        whole = {key: x.contiguous() for key, x in points[name].items()}
        save_file(whole, folder / f"{name}-{seed}.safetensors")
    distance = math.sqrt(
        sum(
            (points["sgd"][key] - x).square().sum().item()
            for key, x in task.of(seed).model().named_parameters()
            for x in [points["swa"][key]]
        )
    )
    return {"methods": found, "recipes": recipes, "distance": distance}


def along(task, seed, folder):
    """Return losses and errors on the line through SGD's point, at 0, and SWA's, at 1."""
    data = task.of(seed)
    sgd, swa = (load_file(folder / f"{name}-{seed}.safetensors") for name in ("sgd", "swa"))
    model = data.model()
    model.load_state_dict(swa)
    back = [sgd[name] - p.detach() for name, p in model.named_parameters()]

    def error(model, batch):
        return 100 * (1 - data.metric(model, batch).mean())

    unknown = batches(task.test)
    objective = landscape.Objective(
        model, data.loss, batches(data.train), calibration=batches(task.mixed(data))[:2]
    )
    found = landscape.slice_along(
        objective,
        back,
        extent=2.0,
        steps=12,
        batch_norm="recalibrate",
        also={
            "test_loss": landscape.Objective(model, data.loss, unknown),
            "test_error": landscape.Objective(model, error, unknown),
        },
    )
    return {
        "position": [1 - a for a in found.positions],
        "train_loss": found.losses,
        **found.also,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", type=int, nargs="+", help="how many, for each task")
    parser.add_argument("--epochs", type=int, nargs="+", help="of each run, for each task")
    parser.add_argument("--out", type=Path, default=Path("weight-averages"), help="finished runs")
    parser.add_argument("--page", type=Path, help="folder for tables, numbers and figure")
    arguments = parser.parse_args()
    begin = time.process_time()
    numbers, lines = {}, {}
    for place, name in enumerate(arguments.tasks):
        task = TASKS[name]()
        seeds = range(arguments.seeds[place] if arguments.seeds else task.seeds)
        epochs = arguments.epochs[place] if arguments.epochs else task.epochs
        folder = arguments.out / f"{name}-{epochs}"
        by_rate, lr, by_decay, decay = chosen(task, epochs, folder)
        folder /= f"lr-{lr}-decay-{decay}"  # what was made with other settings is not taken up
        print(f"{name}: validation error by rate {by_rate}, by decay {by_decay}", flush=True)
        rows = []
        for seed in seeds:
            file = folder / f"seed-{seed}.json"
            rows.append(once(file, one_seed, task, epochs, seed, lr, decay, folder))
            print(f"{name}: seed {seed}, {time.process_time() - begin:.0f} CPU s", flush=True)
        lines[name] = [
            once(folder / f"line-{seed}.json", along, task, seed, folder)
            for seed in seeds[: task.line_seeds]
        ]
        found = summary(rows)
        shown = table(found)
        widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
        for cells in shown:
            print("  ".join(c.ljust(width) for c, width in zip(cells, widths, strict=True)))
        numbers[name] = {
            "epochs": epochs,
            "validation_error_by_rate": by_rate,
            "rate": lr,
            "validation_error_by_switch_ema_decay": by_decay,
            "switch_ema_decay": decay,
            "summary": found,
            "seeds": rows,
            "lines": lines[name],
        }
        if arguments.page:
            with (arguments.page / f"weight-averages-{name}.csv").open("w", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(shown)
    if arguments.page:
        (arguments.page / "weight-averages.json").write_text(json.dumps(numbers, indent=1) + "\n")
        draw(lines, arguments.page / "_static" / "weight-averages.svg")
    print(f"{time.process_time() - begin:.0f} CPU seconds")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
