"""Memory: of the step, of the state, the same number every time."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from train_problems import ALGORITHMS, Net, parts, sgd, workload

from thalweg import around, average, optim
from thalweg.train import Callback, fit
from thalweg.train.memory import PeakMemory, model_bytes, state_bytes, tensor_bytes

CPU = torch.device("cpu")
SCALARS = 64  # bytes of 0-d temporaries that torch makes for Python numbers


def test_the_peak_of_a_known_sequence():
    memory = PeakMemory(CPU)
    memory.start(alive=4000)
    early = torch.ones(500)
    gone = torch.ones(9000)
    del gone
    with memory.measured():
        one = torch.ones(1000)
        two = one + 1
        del one
        three = torch.ones(250)
        del two, three, early
    late = torch.ones(100_000)
    peak = memory.stop()
    assert 4000 + 2000 + 8000 <= peak <= 4000 + 2000 + 8000 + SCALARS
    assert late.shape == (100_000,)


def test_memory_from_before_that_is_freed_counts_as_alive():
    before = torch.ones(5000)
    memory = PeakMemory(CPU)
    memory.start(alive=20_000)
    with memory.measured():
        del before
        after = torch.ones(1000)
    assert 24_000 <= memory.stop() <= 24_000 + SCALARS
    assert after.shape == (1000,)


def test_memory_of_an_earlier_recording_counts_as_alive_too():
    earlier, memory = PeakMemory(CPU), PeakMemory(CPU)
    earlier.start(alive=0)
    with earlier.measured():
        before = torch.ones(5000)
    earlier.stop()
    memory.start(alive=20_000)
    with memory.measured():
        del before
        after = torch.ones(1000)
    assert 24_000 <= memory.stop() <= 24_000 + SCALARS
    assert after.shape == (1000,)


def test_a_linear_layer_in_training():
    # w of 1,000 x 1,000 without momentum: weight and gradient, and no more than a batch beside.
    n, batch = 1000, 10
    x = torch.zeros(batch, n)
    problem = workload(
        model=lambda: nn.Linear(n, n, bias=False),
        train=x,
        validation=x,
        loss=lambda model, x: model(x).square().mean(),
        metric=lambda model, x: 0.0,
        batch_size=batch,
    )

    def plain(model, steps):
        return torch.optim.SGD(model.parameters(), lr=0.1, foreach=False)

    result = fit(problem, plain, steps=3)
    weight, activations = 4 * n * n, 4 * n * batch
    assert 2 * weight <= result.peak_bytes <= 2 * weight + 8 * activations
    assert result.state_bytes == 0

    def adam(model, steps):
        return torch.optim.Adam(model.parameters(), lr=0.1, foreach=False)

    result = fit(problem, adam, steps=3)
    assert 4 * weight <= result.state_bytes + result.peak_bytes - 2 * weight
    assert 2 * weight <= result.state_bytes <= 2 * weight + SCALARS
    # The denominator is a temporary of the weight's size.
    assert 5 * weight <= result.peak_bytes <= 6 * weight + 8 * activations


@pytest.mark.parametrize("name", ["adamw, linear, ema", "soap", "sam around adamw"])
def test_the_peak_is_the_same_every_time(name):
    peaks = {fit(workload(), ALGORITHMS[name], seed=seed).peak_bytes for seed in (0, 0, 1)}
    assert len(peaks) == 1


def test_a_larger_batch_and_more_state_take_more():
    small, large = (fit(workload(batch_size=size), sgd(0.1)).peak_bytes for size in (12, 60))
    more = fit(workload(), ALGORITHMS["adamw, linear, ema"]).peak_bytes
    assert small < large
    assert small < more
    cut = fit(workload(batch_size=60), sgd(0.1), accumulate=5).peak_bytes
    assert small < cut < large


def test_one_step_is_measured_too():
    assert fit(workload(), sgd(0.1), steps=1).peak_bytes > model_bytes(Net())


def test_measuring_changes_nothing_under_a_profiler_of_the_users_own(capfd):
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]):
        result = fit(workload(), sgd(0.1))
    assert result.peak_bytes is None
    plain = fit(workload(), sgd(0.1))
    assert [p.train_loss for p in plain.curve] == [p.train_loss for p in result.curve]


def test_nothing_is_written_to_the_terminal():
    script = "from thalweg.train import fit; fit('quadratic', 'adamw(lr=0.1) + ema', threads=1)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_recording_ends_when_the_run_fails():
    class Fail(Callback):
        def on_step(self, run, step, loss):
            raise ZeroDivisionError

    assert fit(workload(), sgd(0.1), catch=True, callbacks=[Fail()]).status == "failed"
    assert fit(workload(), sgd(0.1)).peak_bytes is not None


def stepped(make):
    model = Net()
    optimizer = make(model)

    def closure():
        optimizer.zero_grad()
        loss = model(torch.ones(5, 4)).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return optimizer, model


def test_state_bytes_of_optimisers_wrappers_and_averages():
    weights = 4 * sum(p.numel() for p in Net().parameters())
    buffers = tensor_bytes(list(Net().buffers()))

    def measured(make, mean=None):
        optimizer, model = stepped(make)
        return state_bytes(optimizer, mean and mean.attach(model), model)

    assert measured(lambda m: optim.SGD(m, lr=0.1)) == 0
    assert measured(lambda m: optim.AdamW(m)) == 2 * weights
    assert measured(lambda m: around.SAM(optim.AdamW(m))) == 2 * weights
    ema = measured(lambda m: optim.SGD(m, lr=0.1), mean=average.EMA())
    assert weights + buffers <= ema <= weights + buffers + 8
    swa = measured(lambda m: optim.SGD(m, lr=0.1), mean=average.SWA())
    assert weights <= swa <= weights + 8
    slow = measured(lambda m: around.Lookahead(optim.AdamW(m), k=5))
    assert 3 * weights <= slow <= 3 * weights + SCALARS


def test_memory_is_counted_once():
    x = torch.zeros(10)
    assert tensor_bytes({"a": [x, (x,)], "b": torch.zeros(3), "c": "text"}) == 52
    assert tensor_bytes({"a": x, "b": torch.zeros(3)}, without=[x]) == 12


def test_the_state_of_a_result():
    result = fit(workload(), parts(lambda m: optim.AdamW(m), mean=average.SWA()))
    weights = 4 * sum(p.numel() for p in Net().parameters())
    assert 3 * weights <= result.state_bytes <= 3 * weights + 8
