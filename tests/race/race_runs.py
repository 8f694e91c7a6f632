"""A planned run for tests."""

from thalweg.race.plan import Planned

RUN = Planned("tune-00-000", "a", "tune", 0, 0, 7, "adamw(lr=0.1)", {"adamw.lr": 0.1}, {})
