"""A table of what seeds gave: means, and in brackets the least and the most."""

import statistics


def print_ranges(rows, title, columns, width):
    """Print a line a model.

    Args:
        rows: of each seed the numbers by model, one a column; their mean is added.
        title: of the column of models.
        columns: the names of the others.
        width: characters of the column of models.
    """
    print(f"{title:{width}} " + " ".join(f"{name:>20}" for name in (*columns, "mean")))
    for name in rows[0]:
        each = [[*row[name], statistics.fmean(row[name])] for row in rows]
        cells = [
            f"{statistics.fmean(c):.3f} [{min(c):.3f}, {max(c):.3f}]"
            for c in zip(*each, strict=True)
        ]
        print(f"{name:{width}} " + " ".join(f"{cell:>20}" for cell in cells))
