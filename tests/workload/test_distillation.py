import pytest
import torch
from torch import nn

from thalweg.core.batch_norm import recalibrate_batch_norm
from thalweg.core.errors import UsageError
from thalweg.workload import Distillation


def batch(count=6):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 4, generator=generator), torch.zeros(count, dtype=torch.long)


def net(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def test_is_the_divergence_and_its_gradient_is_the_temperature_times_the_difference():
    teacher = nn.Linear(4, 3)
    student = nn.Identity()
    z = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    fixed = torch.randn(6, 3, dtype=torch.float64)
    loss = Distillation(teacher, 5.0)
    loss._teacher = nn.Module()
    loss._teacher.forward = lambda x: fixed
    value = loss(student, (z, None))
    p, q = torch.softmax(fixed / 5, -1), torch.softmax(z / 5, -1)
    torch.testing.assert_close(value, 25 * (p * (p / q).log()).sum(1).mean())
    value.backward()
    torch.testing.assert_close(z.grad, (5 * (q - p) / 6).detach())


def test_a_student_that_is_its_teacher_has_no_loss():
    teacher, student = net(0), net(0).eval()
    assert Distillation(teacher)(student, batch()).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("freeze", [True, False])
def test_batch_norm_is_frozen_only_while_the_student_learns(freeze):
    loss = Distillation(net(0), freeze_batch_norm=freeze)
    student = net(1)
    before = student[1].running_mean.clone()
    loss(student, batch()).backward()
    assert torch.equal(student[1].running_mean, before) == freeze
    assert student[1].training
    recalibrate_batch_norm(student, [batch()], loss)
    torch.testing.assert_close(student[1].running_mean, student[0](batch()[0]).mean(0).detach())


def test_the_teacher_stays_as_it_is_and_gets_no_gradient():
    teacher = net(0)
    before = {name: x.clone() for name, x in teacher.state_dict().items()}
    Distillation(teacher)(net(1), batch()).backward()
    assert all(torch.equal(x, before[name]) for name, x in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())


def test_refusals():
    with pytest.raises(UsageError, match="found str"):
        Distillation("teacher")
    with pytest.raises(UsageError, match="found 0"):
        Distillation(net(0), 0)
    with pytest.raises(UsageError, match="inputs="):
        Distillation(net(0))(net(1), {"x": batch()[0]})
