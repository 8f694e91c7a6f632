import pytest
import torch
from torch import nn

from thalweg.core.batch_norm import batch_norm_layers, recalibrate_batch_norm
from thalweg.core.errors import UsageError


def forward(model, batch):
    return model(batch)


def net():
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1, dtype=torch.float64),
        nn.BatchNorm2d(3, momentum=0.3, dtype=torch.float64),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(48, 5, dtype=torch.float64),
        nn.BatchNorm1d(5, momentum=None, dtype=torch.float64),
    )


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(3)
    return torch.randn(23, 2, 4, 4, generator=generator, dtype=torch.float64)


def test_statistics_are_those_of_all_samples_with_uneven_batches(data):
    model = net()
    batches = data.split(10)  # 10, 10 and 3
    recalibrate_batch_norm(model, batches, forward)
    first = model[0](data).transpose(0, 1).flatten(1)
    torch.testing.assert_close(model[1].running_mean, first.mean(1), rtol=0, atol=1e-14)
    expected = sum(
        len(batch) * model[0](batch).transpose(0, 1).flatten(1).var(1) for batch in batches
    )
    torch.testing.assert_close(model[1].running_var, expected / 23, rtol=0, atol=1e-14)
    assert int(model[1].num_batches_tracked) == 3


def test_the_mean_does_not_depend_on_how_samples_are_cut(data):
    one, other = net(), net()
    other.load_state_dict(one.state_dict())
    recalibrate_batch_norm(one, data.split(10), forward)
    recalibrate_batch_norm(other, [data], forward)
    torch.testing.assert_close(one[1].running_mean, other[1].running_mean, rtol=0, atol=1e-14)


def test_equals_a_sample_weighted_cumulative_pass_in_training_mode(data):
    torch.manual_seed(0)
    model, theirs = net(), net()
    theirs.load_state_dict(model.state_dict())
    recalibrate_batch_norm(model, data.split(8), forward)
    theirs.train()
    theirs[3].eval()
    seen = 0
    for batch in data.split(8):
        seen += len(batch)
        for layer in batch_norm_layers(theirs).values():
            layer.momentum = len(batch) / seen
        theirs(batch)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[name], rtol=1e-13, atol=1e-14)


def test_modes_momenta_weights_and_random_state_are_as_before(data):
    model = net()
    model.train()
    model[1].eval()
    modes = [module.training for module in model.modules()]
    weights = {name: value.clone() for name, value in model.named_parameters()}
    state = torch.get_rng_state()
    recalibrate_batch_norm(model, data.split(9), forward)
    assert [module.training for module in model.modules()] == modes
    assert (model[1].momentum, model[6].momentum) == (0.3, None)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, weights[name]) for name, value in model.named_parameters())
    assert not model[1]._forward_hooks
    assert not model[1]._forward_pre_hooks


def test_old_statistics_do_not_matter_even_when_they_are_nan(data):
    model, other = net(), net()
    other.load_state_dict(model.state_dict())
    model[1].running_mean.fill_(float("nan"))
    model[1].running_var.fill_(float("nan"))
    recalibrate_batch_norm(model, data.split(9), forward)
    recalibrate_batch_norm(other, data.split(9), forward)
    assert torch.equal(model[1].running_mean, other[1].running_mean)
    assert torch.equal(model[6].running_var, other[6].running_var)


def test_a_layer_used_twice_sees_both_of_its_inputs():
    layer = nn.BatchNorm1d(1, dtype=torch.float64)
    model = nn.Sequential(layer)
    batch = torch.tensor([[0.0], [2.0], [7.0]], dtype=torch.float64)

    def twice(model, batch):
        model(batch)
        layer(input=batch + 10)

    recalibrate_batch_norm(model, [batch], twice)
    assert layer.running_mean.item() == pytest.approx(8.0, abs=1e-14)
    assert layer.running_var.item() == pytest.approx(batch.var().item(), abs=1e-14)


def test_a_layer_that_no_batch_reaches_keeps_its_statistics(data):
    model = nn.ModuleDict({"used": nn.BatchNorm2d(2).double(), "idle": nn.BatchNorm2d(2)})
    model["idle"].running_mean.fill_(4.0)
    recalibrate_batch_norm(model, [data], lambda model, batch: model["used"](batch))
    assert model["idle"].running_mean.tolist() == [4.0, 4.0]
    torch.testing.assert_close(model["used"].running_mean, data.mean((0, 2, 3)))


def test_an_error_leaves_the_model_as_it_was(data):
    model = net()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def failing(model, batch):
        model(batch)
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        recalibrate_batch_norm(model, [data], failing)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model[1].momentum == 0.3
    assert model.training


def test_bad_batches_are_refused_with_what_to_do(data):
    with pytest.raises(UsageError, match="pass at least one batch"):
        recalibrate_batch_norm(net(), [], forward)
    with pytest.raises(UsageError, match=r'layer "6".*one value a channel.*at least two samples'):
        recalibrate_batch_norm(net(), [data[:1]], forward)


def test_without_batch_norm_no_forward_pass_is_spent():
    recalibrate_batch_norm(nn.Linear(2, 2), iter(["never read"]), lambda model, batch: 1 / 0)


def test_layers_without_running_statistics_are_left_alone(data):
    model = nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False), nn.BatchNorm2d(2)).double()
    assert list(batch_norm_layers(model)) == ["1"]
    recalibrate_batch_norm(model, [data], forward)
    assert model[0].running_mean is None
