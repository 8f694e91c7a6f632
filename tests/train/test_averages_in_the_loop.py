"""Averages in the training loop: what they do to it, resumed runs, several along one run."""

import math
from types import SimpleNamespace

import pytest
import torch
from train_problems import Interrupt, Net, PowerCutError, blobs, loss, without_times, workload

from thalweg.average import (
    EMA,
    LAWA,
    NTASGD,
    SWA,
    SWAD,
    SWAG,
    Ensemble,
    PowerEMA,
    SwitchEMA,
    recalibrate_batch_norm,
)
from thalweg.core import registry
from thalweg.core.errors import UsageError
from thalweg.train import Callback, FollowAverages, fit
from thalweg.workload import in_order

AVERAGES = registry.slugs("average")
SETTINGS = {
    "switch-ema": "switch-ema(0.5, interval=4)",
    "swag": "swag(0.3, 1, rank=3, samples=2)",
    "swad": "swad(1, 2, 0.0)",
    "nt-asgd": "nt-asgd(1)",
    "sma": "sma(5)",
    "fge": "fge(0.4, 2)",
    "twa": "twa(0.5, 0.1, points=3)",
    "lawa": "lawa(3, 2)",
}


def recipe(slug):
    return f"sgd(lr=0.2, momentum=0.9) + {SETTINGS.get(slug, slug)}"


class Losses(Callback):
    """Collects the training losses."""

    def __init__(self):
        self.losses = []

    def on_step(self, run, step, loss):
        self.losses.append(loss)


def interrupted(problem, text, folder, *callbacks, seed=0, stop=7):
    """Run until the power fails in a step, with a checkpoint after every one before."""
    with pytest.raises(PowerCutError):
        fit(
            problem,
            text,
            seed=seed,
            checkpoint=folder,
            checkpoint_every=1,
            callbacks=[*callbacks, Interrupt(stop)],
        )


@pytest.mark.parametrize("slug", AVERAGES)
def test_every_average_resumes_bit_for_bit(slug, tmp_path):
    problem = workload(evaluate_every=2)
    whole = fit(problem, recipe(slug), seed=3)
    for stop in (3, 7, 11):
        interrupted(problem, recipe(slug), tmp_path / str(stop), seed=3, stop=stop)
        again = fit(problem, recipe(slug), seed=3, checkpoint=tmp_path / str(stop))
        assert without_times(again) == without_times(whole)


@pytest.mark.parametrize("slug", AVERAGES)
def test_only_what_writes_back_changes_the_training(slug):
    plain, averaged = Losses(), Losses()
    fit(workload(), "sgd(lr=0.2, momentum=0.9)", callbacks=[plain])
    fit(workload(), recipe(slug), callbacks=[averaged])
    changes = registry.get(slug).factory().attach(Net()).writes_back
    assert (averaged.losses != plain.losses) == changes


def test_switch_ema_goes_on_from_its_average():
    class Look(Callback):
        def on_evaluate(self, run, point):
            own = {name: p.clone() for name, p in run.model.named_parameters()}
            with run.evaluating():
                same = all(torch.equal(p, own[n]) for n, p in run.model.named_parameters())
            seen.append((point.step, same))

    seen = []
    fit(workload(evaluate_every=1), recipe("switch-ema"), callbacks=[Look()])
    assert [step for step, same in seen if same] == [1, 4, 8, 12]  # 1 is the average's first point


class Hear(Callback):
    """Collects the validation losses of the training weights, as the loop tells them."""

    def __init__(self):
        self.losses = []

    def on_evaluate(self, run, point):
        run.model.eval()
        x, y = run.workload.validation
        total = loss(run.model, (x, y)).item()
        run.model.train()
        self.losses.append((point.step, total))


def test_swad_hears_the_validation_loss_of_the_training_weights():
    found = {}

    def build(model, steps):
        found["average"] = SWAD(2, 2).attach(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
        return SimpleNamespace(optimizer=optimizer, learning_rate=None, average=found["average"])

    hear = Hear()
    fit(workload(evaluate_every=2, batch_size=12), build, callbacks=[hear])
    heard = found["average"].state_dict()["losses"].tolist()
    assert heard == pytest.approx([loss for _, loss in hear.losses][: len(heard)], rel=1e-5)


def test_an_average_by_validation_loss_costs_one_more_evaluation_only_while_it_waits():
    calls = []

    def counted(model, batch):
        if not torch.is_grad_enabled():
            calls.append(model)
        return loss(model, batch)

    problem = workload(loss=counted, evaluate_every=1, validation=blobs(12, 1))
    fit(problem, "sgd(lr=0.2) + ema")
    assert not calls
    fit(problem, "sgd(lr=0.2) + nt-asgd(1)")
    assert 1 <= len(calls) <= 12


def test_a_validation_loss_that_is_nan_ends_the_run():
    def failing(model, batch):
        value = loss(model, batch)
        return value if torch.is_grad_enabled() else value * math.nan

    result = fit(workload(loss=failing), "sgd(lr=0.2) + swad")
    assert result.status == "diverged"
    assert result.error == "the validation loss was nan at step 3"


def test_a_predictive_average_is_evaluated_as_its_ensemble_each_with_its_statistics():
    # Recalibration takes 1,024 samples in batches of one epoch: the exact statistics.
    problem = workload(batch_size=60, metric=lambda m, b: loss(m, b), higher_is_better=False)
    found = {}

    def build(model, steps):
        found["average"] = SWAG(0.3, 1, rank=3, samples=5).attach(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
        return SimpleNamespace(optimizer=optimizer, learning_rate=None, average=found["average"])

    result = fit(problem, build)
    members = []
    for point in found["average"].members():
        model = Net()
        model.load_state_dict(point, strict=False)
        recalibrate_batch_norm(model, [problem.train], lambda m, b: m(b[0]))
        members.append({k: v.clone() for k, v in model.state_dict().items()})
    ensemble = Ensemble(Net().eval(), members).eval()
    (batch,) = in_order(problem.validation, 60, "cpu", None)
    expected = float(loss(ensemble, batch))
    assert result.final_metric == pytest.approx(expected, rel=1e-4)
    # The weights of the result are the mean's.
    mean = found["average"].weights()
    assert all(torch.equal(result.weights[name], mean[name]) for name in mean)


def test_several_averages_along_one_run_are_those_of_several_runs():
    settings = {
        "fast": EMA(0.5),
        "slow": EMA(0.95),
        "swa": SWA(0.5),
        "lawa": LAWA(3, 2),
        "swag": SWAG(0.3, 1, rank=3, samples=2),
        "nt": NTASGD(1),
        "swad": SWAD(1, 1, 0.0),
    }
    follow = FollowAverages(settings)
    plain = fit(workload(evaluate_every=2), "sgd(lr=0.2)")
    result = fit(workload(evaluate_every=2), "sgd(lr=0.2)", callbacks=[follow])
    assert without_times(result) == without_times(plain)
    texts = {
        "fast": "ema(0.5)",
        "slow": "ema(0.95)",
        "swa": "swa(0.5)",
        "lawa": "lawa(3, 2)",
        "swag": "swag(0.3, 1, rank=3, samples=2)",
        "nt": "nt-asgd(1)",
        "swad": "swad(1, 1, 0.0)",
    }
    for name, text in texts.items():
        alone = fit(workload(evaluate_every=2), f"sgd(lr=0.2) + {text}")
        assert [p.metric for p in follow.curves[name]] == [p.metric for p in alone.curve], name


def test_averages_that_are_followed_resume_bit_for_bit(tmp_path):
    def follow():
        return FollowAverages({"ema": EMA(0.9), "swad": SWAD(1, 2), "power": PowerEMA(snapshots=3)})

    whole, again, other = follow(), follow(), FollowAverages({"other": EMA()})
    fit(workload(), "sgd(lr=0.2)", callbacks=[whole])
    interrupted(workload(), "sgd(lr=0.2)", tmp_path, follow())
    with pytest.raises(UsageError, match=r"follows the averages .*'swad'.*found \['other'\]"):
        fit(workload(), "sgd(lr=0.2)", checkpoint=tmp_path, callbacks=[other])
    fit(workload(), "sgd(lr=0.2)", checkpoint=tmp_path, callbacks=[again])
    for name, average in whole.running.items():
        one, other = average.state_dict(), again.running[name].state_dict()
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
        assert [(p.step, p.metric) for p in whole.curves[name]] == [
            (p.step, p.metric) for p in again.curves[name]
        ]


def test_a_callback_that_was_not_there_cannot_begin_in_the_middle(tmp_path):
    follow = FollowAverages({"ema": EMA()})
    interrupted(workload(), "sgd(lr=0.2)", tmp_path)
    with pytest.raises(UsageError, match="without FollowAverages"):
        fit(workload(), "sgd(lr=0.2)", checkpoint=tmp_path, callbacks=[follow])


def test_what_changes_the_training_cannot_be_followed_beside_it():
    with pytest.raises(UsageError, match=r"SwitchEMA.*part of the recipe"):
        fit(workload(), "sgd(lr=0.2)", callbacks=[FollowAverages({"switch": SwitchEMA()})])
    with pytest.raises(UsageError, match="found str"):
        FollowAverages({"ema": "ema"})


def test_averages_in_bfloat16_on_the_cpu_resume_too(tmp_path):
    text = 'sgd(lr=0.2) + ema(0.9, device="cpu", precision="bfloat16")'
    whole = fit(workload(), text)
    interrupted(workload(), text, tmp_path)
    assert without_times(fit(workload(), text, checkpoint=tmp_path)) == without_times(whole)
    exact = fit(workload(), "sgd(lr=0.2) + ema(0.9)")
    weight = 4 * 8
    assert exact.state_bytes - whole.state_bytes > weight


def test_polyak_of_a_noisy_quadratic_ends_nearer_to_the_minimum():
    text = "sgd(lr=0.5)"
    last = fit("quadratic", text, steps=300)
    mean = fit("quadratic", f"{text} + polyak(start=0.5)", steps=300)
    assert mean.final_metric < 0.5 * last.final_metric
