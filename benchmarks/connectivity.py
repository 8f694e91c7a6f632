"""Mode connectivity on real digits: straight lines, curves of low loss, and the three planes.

Three networks are trained from different seeds, by SGD with momentum and weight decay on the
workload `digits`. Between the first two there is the straight line, a Bezier curve and a polygonal
chain of one bend each, trained on the same objective: cross-entropy and weight decay (Garipov et
al., 2018, arXiv 1802.10026). Printed are losses and errors on all training and validation samples:
at the ends, the largest along the way, and that divided by the worse end's. The figure shows the
planes through the three networks, through the curve and through the chain, as the paper's figure
1; its losses are those of 1,000 training samples. Results are written as data too::

    python benchmarks/connectivity.py [--net cnn] [--out connectivity]

"cnn" is the workload's own network with batch norm, whose statistics are recomputed at every
point; "mlp" is 784-200-200-10 with ReLU and no batch norm. One core takes some minutes.
"""

import argparse
import dataclasses
import time
from pathlib import Path

from torch import nn

from thalweg import landscape, train, workload


def perceptron():
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 200),
        nn.ReLU(),
        nn.Linear(200, 200),
        nn.ReLU(),
        nn.Linear(200, 10),
    )


def cut(data, samples, size=500):
    """Return batches of evenly chosen samples."""
    images, labels = (x[:: len(x) // samples][:samples] for x in data)
    return [(images[i : i + size], labels[i : i + size]) for i in range(0, samples, size)]


def measures(task, model, decay, samples):
    """Return the objective that is trained, and losses and errors on both parts."""
    training, held_out = cut(task.train, samples), cut(task.validation, len(task.validation[0]))

    def trained(model, batch):
        square = sum(p.square().sum() for p in model.parameters())
        return task.loss(model, batch) + 0.5 * decay * square

    def error(model, batch):
        return 1 - task.metric(model, batch).mean()

    def of(function, batches):
        return landscape.Objective(model, function, batches, calibration=training)

    return of(trained, training), {
        "train cross-entropy": of(task.loss, training),
        "test cross-entropy": of(task.loss, held_out),
        "train error": of(error, training),
        "test error": of(error, held_out),
    }


def say(title, way):
    print(f"{title}: at the ends, largest along the way, largest / worse end", flush=True)
    for name, values in {"objective": way.losses, **way.also}.items():
        worse, most = max(values[0], values[-1]), max(values)
        ratio = f"{most / worse:6.3f}" if worse > 0 else "     -"
        print(f"  {name:20}{values[0]:8.4f}{values[-1]:8.4f}{most:9.4f}  {ratio}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--net", choices=("cnn", "mlp"), default="cnn")
    parser.add_argument("--steps", type=int, default=1000, help="of each network")
    parser.add_argument("--curve-steps", type=int, default=5000)
    parser.add_argument("--decay", type=float, default=1e-3)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--points", type=int, default=31, help="along each way")
    parser.add_argument("--size", type=int, default=21, help="points a side of each plane")
    parser.add_argument("--out", type=Path, default=Path("connectivity"))
    arguments = parser.parse_args()
    decay, lr, out = arguments.decay, arguments.lr, arguments.out
    begin = time.process_time()

    task = workload.load("digits")
    if arguments.net == "mlp":
        task = dataclasses.replace(task, name="digits-mlp", model=perceptron)
    recipe = f"sgd(lr={lr}, momentum=0.9, weight_decay={decay}) + cosine"
    found = {}
    for seed, name in enumerate(("first", "second", "third")):
        result = train.fit(
            task, recipe, steps=arguments.steps, seed=seed, evaluate_every=arguments.steps
        )
        print(f"{name}: test {task.metric_name} {result.final_metric:.3f}", flush=True)
        found[name] = result.weights
    first, second, third = found.values()
    model = task.model()
    objective, also = measures(task, model, decay, len(task.train[0]))
    shared = {"also": also, "batch_norm": "recalibrate"}
    (line,) = landscape.lines(
        objective, {"first": first, "second": second}, steps=arguments.points - 1, **shared
    )
    line.save(out / "line.npz")
    say("straight line", line)
    order = workload.Batches(task.train, task.batch_size, seed=1)
    curves = {}
    for kind, name in (("bezier", "Bezier curve"), ("chain", "polygonal chain")):
        curves[name] = landscape.connect(
            model,
            task.loss,
            (first, second),
            order.at,
            steps=arguments.curve_steps,
            kind=kind,
            lr=lr,
            weight_decay=decay,
        )
        curves[name].save(out / f"{kind}.npz")
        way = landscape.profile(objective, curves[name], points=arguments.points, **shared)
        way.save(out / f"{kind}-profile.npz")
        way.plot(out / f"{kind}-profile.png")
        say(name, way)
    coarse, _ = measures(task, model, decay, 1000)
    planes = {
        "three optima": landscape.plane(
            coarse,
            {"first": first, "third": third, "second": second},
            size=arguments.size,
            batch_norm="recalibrate",
        )
    }
    for name, curve in curves.items():
        corners = {"first": first, "bend": curve.points[1], "second": second}
        planes[name] = landscape.plane(
            coarse, corners, size=arguments.size, batch_norm="recalibrate", curves={name: curve}
        )
    for name, one in planes.items():
        one.save(out / f"plane-{name.replace(' ', '-')}.npz")
    for suffix in ("png", "pdf"):
        landscape.side_by_side(
            planes, out / f"planes.{suffix}", label="training objective", scale="log"
        )
    print(f"{time.process_time() - begin:.0f} CPU seconds; figure: {out / 'planes.png'}")


if __name__ == "__main__":
    main()
