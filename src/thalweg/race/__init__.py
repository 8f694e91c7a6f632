"""A fair race between training algorithms: search, runs, store, score and verdict."""
