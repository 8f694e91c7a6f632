"""Races under way, for the tests of their live page."""

from thalweg.race import RaceConfig, parse_entrants, run_race
from thalweg.train import fit

ENTRANTS = ["adamw + linear", "<b>sgd</b> = sgd(momentum=0.9) + cosine", "boom = sgd(lr=1e30)"]


class Stop(BaseException):
    """What kill -9 is to a process, for a race in this one."""


def race_until(folder, run_id, step=12):
    """Run a race up to a step of a run and leave it as a killed process would."""
    import torch

    from thalweg import train

    class Killer(train.Callback):
        def on_step(self, run, step_now, loss):
            if (folder / "live" / f"{run_id}.json").exists() and step_now >= step:
                # What the file would say a second later.
                live = next(c for c in run._callbacks if type(c).__name__ == "LiveFile")
                live._write(run)
                raise Stop

    def killed(*arguments, callbacks=(), **settings):
        return fit(*arguments, callbacks=[*callbacks, Killer()], **settings)

    threads = torch.get_num_threads()
    config = RaceConfig(
        "quadratic", parse_entrants(ENTRANTS), folder, trials=2, seeds=3, steps=20, seed=4
    )
    try:
        run_race(config, fit=killed)
    except Stop:
        torch.set_num_threads(threads)
    return config
