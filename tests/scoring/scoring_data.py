"""Where the published numbers lie."""

import csv
from pathlib import Path

DATA = Path(__file__).parent / "algoperf_v05"


def published(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(newline="") as file:
        return list(csv.DictReader(file))
