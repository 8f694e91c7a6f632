"""Summary, table and figure of benchmarks/weight_averages.py."""

import math
import statistics

from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from scipy import stats

from thalweg.landscape.figures.style import COLOURS, drawing, note

QUANTITIES = ("train_loss", "train_error", "test_loss", "test_error")
NAMES = {
    "sgd": "SGD, rate decays",
    "sgd-ema": "its EMA",
    "sgd-lawa": "its LAWA",
    "switch-ema": "SGD with Switch EMA, rate decays",
    "high": "SGD, rate stays high",
    "swa": "its SWA",
    "high-ema": "its EMA",
    "high-lawa": "its LAWA",
    "swag": "its SWAG, mean prediction",
}


def interval(values):
    """Return mean and half of Student's 95 % interval of the mean."""
    spread = statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values), float(stats.t.ppf(0.975, len(values) - 1)) * spread


def summary(rows):
    """Return each method's means with intervals, and its paired differences from SGD."""
    found = {}
    for name in NAMES:
        found[name] = one = {}
        for quantity in QUANTITIES:
            values = [row["methods"][name][quantity] for row in rows]
            mean, half = interval(values)
            one[quantity] = {"mean": mean, "half_width": half}
            if name == "sgd":
                continue
            less = [
                v - row["methods"]["sgd"][quantity] for v, row in zip(values, rows, strict=True)
            ]
            mean, half = interval(less)
            up, down = sum(x > 0 for x in less), sum(x < 0 for x in less)
            p = float(stats.binomtest(up, up + down).pvalue) if up + down else 1.0
            one[quantity] |= {"difference": mean, "difference_half_width": half,
                              "higher": up, "lower": down, "sign_test": p}  # fmt: skip
    return found


def table(found):
    """Return the rows of the table, with a heading."""
    rows = [["", "train loss", "test loss", "test error, %", "minus SGD's", "lower : higher", "p"]]
    for name, one in found.items():
        cells = [NAMES[name]]
        for quantity, digits in (("train_loss", 4), ("test_loss", 4), ("test_error", 2)):
            value = one[quantity]
            cells.append(f"{value['mean']:.{digits}f}\u00a0±\u00a0{value['half_width']:.{digits}f}")
        value = one["test_error"]
        if "difference" in value:
            cells.append(
                f"{value['difference']:+.2f}\u00a0±\u00a0{value['difference_half_width']:.2f}"
            )
            cells.append(f"{value['lower']}\u00a0:\u00a0{value['higher']}")
            cells.append(f"{value['sign_test']:.3f}")
        rows.append(cells + [""] * (len(rows[0]) - len(cells)))
    return rows


def draw(lines, path):
    """Draw train loss, test loss and test error along the lines, a row of panels for each task."""
    labels = {"train_loss": "train loss", "test_loss": "test loss", "test_error": "test error, %"}
    with drawing((8.0, 2.7 * len(lines)), path) as figure:
        panels = figure.subplots(len(lines), 3, squeeze=False)
        for row, (task, each) in zip(panels, lines.items(), strict=True):
            for axes, (quantity, label) in zip(row, labels.items(), strict=True):
                x = each[0]["position"]
                for one in each:
                    axes.plot(x, one[quantity], color=COLOURS[5], linewidth=0.7)
                middle = [statistics.fmean(v) for v in zip(*(o[quantity] for o in each),
                                                           strict=True)]  # fmt: skip
                axes.plot(x, middle, color=COLOURS[0])
                for place, name in ((0.0, "SGD"), (1.0, "SWA")):
                    height = middle[min(range(len(x)), key=lambda k: abs(x[k] - place))]
                    axes.plot([place], [height], "o", color="black", markersize=4)
                    axes.annotate(name, (place, height), xytext=(0, -13), ha="center",
                                  textcoords="offset points")  # fmt: skip
                axes.set_yscale("log")
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axes.yaxis.set_minor_formatter(NullFormatter())
                axes.margins(y=0.12)
                axes.set_ylabel(f"{label} (log scale)")
                axes.set_title(task)
                axes.set_xlabel("way from SGD (0) to SWA (1)")
        note(figure, ["thin: each seed; thick: their mean; batch norm recalibrated at every point"])
