"""Heat maps of coloured, labelled cells."""

from collections.abc import Sequence

from thalweg.report.figure import Spec, colour


class Cells:
    """The cells of a heat map that are drawn by one scale of colours; others stay blank."""

    def __init__(self) -> None:
        self._values: list[list[float | None]] = []
        self._cells: list[list[str]] = []
        self._notes: list[list[str]] = []

    def start_row(self) -> None:
        """Begin the next row."""
        for table in (self._values, self._cells, self._notes):
            table.append([])

    def cell(self, value: float | None, cell: str, note: str) -> None:
        """Add a cell to the row: its value, what is written in it, and what a pointer shows."""
        self._values[-1].append(value)
        self._cells[-1].append(cell)
        self._notes[-1].append(note)

    def blank(self) -> None:
        """Add a cell of which this scale draws nothing."""
        self.cell(None, "", "")

    def trace(self, scale: Sequence[str], low: float = 0.0, high: float = 1.0) -> Spec:
        """Return the cells as a trace, coloured from ``low`` to ``high`` by names of colours."""
        last = len(scale) - 1
        return {
            "type": "heatmap",
            "z": self._values,
            "x": list(range(len(self._values[0]))),
            "y": list(range(len(self._values))),
            "zmin": low,
            "zmax": high,
            "text": self._cells,
            "texttemplate": "%{text}",
            "customdata": self._notes,
            "hovertemplate": "%{customdata}<extra></extra>",
            "hoverongaps": False,
            "colorscale": [[i / last, colour(name)] for i, name in enumerate(scale)],
            "showscale": False,
            "xgap": 3,
            "ygap": 3,
        }


def narrow(columns: int) -> str:
    """Return what becomes of the text of that many columns of cells on a narrow screen."""
    return "small" if columns <= 5 else "none"


def grid(rows: Sequence[str], columns: Sequence[str]) -> Spec:
    """Return the layout of a heat map with named rows, from the top, and columns."""

    def named(names: Sequence[str]) -> Spec:
        return {
            "tickmode": "array",
            "tickvals": list(range(len(names))),
            "ticktext": list(names),
            "showgrid": False,
            "showline": False,
        }

    return {
        "xaxis": {
            **named(columns),
            "autotickangles": [0, -40],
            "range": [-0.5, len(columns) - 0.5],
        },
        "yaxis": {**named(rows), "range": [len(rows) - 0.5, -0.5]},
        "hovermode": "closest",
        "dragmode": False,
    }
