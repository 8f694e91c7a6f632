import pytest
import torch

from thalweg.core.errors import UsageError
from thalweg.schedule import Chain, Constant, LearningRate, Linear, Warmup


def optimizer(**options):
    one, other = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(1))
    return torch.optim.SGD([{"params": [one]}, {"params": [other], "lr": 0.5}], lr=2.0, **options)


def test_rates_are_peak_times_factor_in_every_group():
    base = optimizer()
    driver = LearningRate(base, Linear(), 4)
    seen = []
    for _ in range(5):
        seen.append([group["lr"] for group in base.param_groups])
        driver.step()
    assert seen == [[2, 0.5], [1.5, 0.375], [1, 0.25], [0.5, 0.125], [0, 0]]
    assert driver.get_last_lr() == [0, 0]


def test_the_rate_of_the_first_step_is_in_force_at_once():
    base = optimizer()
    LearningRate(base, Chain(Warmup(0.5, initial=0.25), Constant()), 8)
    assert base.param_groups[0]["lr"] == 0.5


def test_equals_torch_s_lambda_schedule():
    ours, theirs = optimizer(), optimizer()
    schedule = Chain(Warmup(0.2), Linear(0.1))
    driver = LearningRate(ours, schedule, 20)
    torch_driver = torch.optim.lr_scheduler.LambdaLR(theirs, lambda t: schedule.factor(t, 20))
    for _ in range(22):
        assert driver.get_last_lr() == torch_driver.get_last_lr()
        theirs.step()
        torch_driver.step()
        driver.step()


def test_a_group_added_later_joins_in():
    base = optimizer()
    driver = LearningRate(base, Linear(), 4)
    base.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": 8.0})
    driver.step()
    assert base.param_groups[2]["lr"] == 6


def test_resumes_where_it_was():
    base = optimizer()
    driver = LearningRate(base, Linear(), 10)
    for _ in range(3):
        driver.step()
    saved = driver.state_dict(), base.state_dict()
    fresh = optimizer()
    fresh.load_state_dict(saved[1])
    resumed = LearningRate(fresh, Linear(), 10)
    resumed.load_state_dict(saved[0])
    assert resumed.get_last_lr() == driver.get_last_lr()
    resumed.step()
    driver.step()
    assert resumed.get_last_lr() == driver.get_last_lr() == [1.2, 0.3]


def test_a_tensor_rate_is_filled_in_place():
    rate = torch.tensor(2.0, dtype=torch.float64)
    base = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))], lr=rate, capturable=False)
    driver = LearningRate(base, Linear(), 4)
    driver.step()
    assert base.param_groups[0]["lr"] is rate
    assert rate.item() == 1.5
    assert base.param_groups[0]["initial_lr"] == 2.0


class Rateless(torch.optim.Optimizer):
    def __init__(self, params):
        super().__init__(params, {})

    def step(self, closure=None):
        return None


def test_bad_input_is_refused():
    with pytest.raises(UsageError, match="Rateless has a parameter group without a learning rate"):
        LearningRate(Rateless([torch.nn.Parameter(torch.ones(1))]), Linear(), 3)
    with pytest.raises(UsageError, match="steps must be a whole number of at least 1, found 0"):
        LearningRate(optimizer(), Linear(), 0)
    with pytest.raises(UsageError, match="expected a schedule, found function"):
        LearningRate(optimizer(), lambda t: t, 3)
    driver = LearningRate(optimizer(), Linear(), 3)
    with pytest.raises(UsageError, match="has a \"step\", found \\['last_epoch'\\]"):
        driver.load_state_dict({"last_epoch": 3})
