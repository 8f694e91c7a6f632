"""A picture of your choice as the loss surface of a network, by multi-point optimisation.

A 196-64-10 network on the digits of the workload at 14 x 14 gets a plane in its weight space on
which the loss is low where a picture is set and high elsewhere (Skorokhodov and Burtsev, 2019,
arXiv 1910.03867). The picture is a text file of rows, "#" where the loss is to be low, or a heart.
Printed is the mean loss of both kinds of cells, on 1,000 training and on 1,000 validation samples::

    python benchmarks/pattern.py [--picture FILE] [--out pattern]

One core takes some minutes.
"""

import argparse
import time
from pathlib import Path

import torch
from torch import nn

from thalweg import landscape, workload

HEART = """
...........
..##...##..
.####.####.
.#########.
.#########.
..#######..
...#####...
....###....
.....#.....
...........
...........
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--cells", type=int, default=16, help="of each kind a step, at most")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--out", type=Path, default=Path("pattern"))
    arguments = parser.parse_args()
    begin = time.process_time()
    text = arguments.picture.read_text() if arguments.picture else HEART
    # Rows are counted upwards on the figure.
    picture = [[cell == "#" for cell in row] for row in reversed(text.split())]
    task = workload.load("digits")
    (images, labels), (others, wanted) = (
        (nn.functional.avg_pool2d(x, 2).flatten(1), y) for x, y in (task.train, task.validation)
    )
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(196, 64), nn.ReLU(), nn.Linear(64, 10))
    order = workload.Batches((images, labels), 128)
    found = landscape.find_pattern(
        model,
        task.loss,
        picture,
        order.at,
        steps=arguments.steps,
        cells=arguments.cells,
        lr=arguments.lr,
    )
    train = landscape.Objective(model, task.loss, [(images[::4], labels[::4])])
    test = landscape.Objective(model, task.loss, [(others, wanted)])
    low = torch.tensor(picture)
    for part, objective in (("train", train), ("test", test)):
        losses = torch.tensor(found.losses(objective))
        print(
            f"{part} loss: {losses[low].mean():.3f} where it is to be low (at most "
            f"{losses[low].max():.3f}), {losses[~low].mean():.3f} elsewhere (at least "
            f"{losses[~low].min():.3f})"
        )
    with torch.no_grad():
        for p, o in zip(model.parameters(), found.origin, strict=True):
            p.copy_(o)
    directions = tuple([found.scale * x for x in part] for part in (found.right, found.up))
    surface = landscape.surface(
        train, directions, extent=len(picture) / 2, steps=4 * len(picture), also={"test loss": test}
    )
    surface.save(arguments.out / "surface.npz")
    for suffix in ("png", "pdf"):
        surface.plot(arguments.out / f"surface.{suffix}", scale="linear", clip=2.5)
    print(f"{time.process_time() - begin:.0f} CPU seconds; {arguments.out / 'surface.png'}")


if __name__ == "__main__":
    main()
