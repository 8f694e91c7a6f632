import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from thalweg.around import SAM, Lookahead, dual_vector
from thalweg.core.errors import UsageError

P = [1.0, 1.3, 2.0, 3.0, 7.0, math.inf]


def dual(p):
    return {1.0: math.inf, math.inf: 1.0}.get(p) or p / (p - 1)


def flat(tensors):
    return torch.cat([x.flatten() for x in tensors])


def gradients(seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3, 4), (4,), (), (0,), (2, 2, 2)]
    return [scale * torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]


@given(
    st.sampled_from(P),
    st.floats(1e-3, 10),
    st.integers(0, 10**6),
    st.sampled_from([1e-30, 1.0, 1e30]),
)
def test_the_perturbation_has_norm_rho_and_is_dual_to_the_gradient(p, rho, seed, scale):
    grads = gradients(seed, scale)
    e, g = flat(dual_vector(grads, rho, p)), flat(grads)
    norm = torch.linalg.vector_norm
    assert norm(e, p).item() == pytest.approx(rho, rel=1e-12)
    q = dual(p)
    # No power of g: the dual norm of huge and tiny gradients would not fit.
    expected = rho * (g.abs().max() * norm(g / g.abs().max(), q)).item()
    assert torch.dot(e, g).item() == pytest.approx(expected, rel=1e-12)


@given(st.sampled_from([1.3, 2.0, 3.0, 7.0]), st.integers(0, 10**6))
def test_the_formula_of_the_paper(p, seed):
    grads = gradients(seed)
    g, q = flat(grads), dual(p)
    paper = 0.05 * g.sign() * g.abs() ** (q - 1) / (g.abs() ** q).sum() ** (1 / p)
    torch.testing.assert_close(flat(dual_vector(grads, 0.05, p)), paper, rtol=1e-12, atol=1e-15)


def test_the_two_ends():
    grads = [torch.tensor([1.0, -3.0, 0.0]), torch.tensor([[2.0], [3.0]])]
    one = dual_vector(grads, 0.5, 1.0)
    assert flat(one).tolist() == [0, -0.25, 0, 0, 0.25]  # a tie shares the radius
    many = dual_vector(grads, 0.5, math.inf)
    assert flat(many).tolist() == [0.5, -0.5, 0, 0.5, 0.5]


@pytest.mark.parametrize("p", P)
def test_a_zero_gradient_perturbs_nothing(p):
    assert all((e == 0).all() for e in dual_vector([torch.zeros(3), torch.zeros(2, 2)], 0.1, p))
    assert dual_vector([], 0.1, p) == []
    assert [e.shape for e in dual_vector([torch.zeros(0)], 0.1, p)] == [(0,)]


@pytest.mark.parametrize("p", P)
def test_nan_stays_nan(p):
    grads = [torch.tensor([1.0, 2.0]), torch.tensor([float("nan"), -5.0])]
    assert flat(dual_vector(grads, 0.1, p)).isnan().all()


@pytest.mark.parametrize("p", P)
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_gradients_are_perturbed_in_full_precision(p, kind):
    grads = [x.to(kind) for x in gradients(1)]
    exact = flat(dual_vector([x.double() for x in grads], 0.3, p))
    torch.testing.assert_close(
        flat(dual_vector(grads, 0.3, p)), exact.float(), rtol=1e-5, atol=1e-7
    )


def test_gradients_of_mixed_precision_keep_theirs():
    grads = [torch.ones(3), torch.ones((), dtype=torch.float64)]
    for p in P:
        moves = dual_vector(grads, 0.2, p)
        assert [e.dtype for e in moves] == [torch.float32, torch.float64]
        assert torch.linalg.vector_norm(flat(moves), p).item() == pytest.approx(0.2, rel=1e-6)


def quadratic(seed=0, n=4):
    """Return w, A and a function that makes a closure for w^T A w / 2."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(n, n, generator=generator, dtype=torch.float64)
    a = root @ root.T + torch.eye(n, dtype=torch.float64)
    w = nn.Parameter(torch.randn(n, generator=generator, dtype=torch.float64))

    def closure(optimizer):
        def run():
            optimizer.zero_grad()
            loss = w @ a @ w / 2
            loss.backward()
            return loss

        return run

    return w, a, closure


def test_on_a_quadratic_the_second_gradient_is_the_closed_form():
    w, a, closure = quadratic()
    optimizer = SAM(torch.optim.SGD([w], lr=0.01), rho=0.3)
    for _ in range(5):
        start = w.detach().clone()
        loss = optimizer.step(closure(optimizer))
        g = a @ start
        second = a @ (start + 0.3 * g / g.norm())
        torch.testing.assert_close(w.grad, second, rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(w.detach(), start - 0.01 * second, rtol=0, atol=1e-15)
        assert loss.item() == pytest.approx((start @ a @ start / 2).item(), rel=1e-15)
        assert not loss.requires_grad


def test_radius_zero_is_the_base():
    w, _, closure = quadratic()
    v, _, plain = quadratic()
    sam = SAM(torch.optim.Adam([w], lr=0.1, weight_decay=0.1), rho=0.0)
    base = torch.optim.Adam([v], lr=0.1, weight_decay=0.1)
    for _ in range(10):
        sam.step(closure(sam))
        base.step(plain(base))
    assert torch.equal(w, v)


@pytest.mark.parametrize("p", P)
def test_the_base_steps_from_the_very_weights(p):
    w, _, closure = quadratic()
    with torch.no_grad():
        w[0] = 1e30  # w + e - e would not be w
    start = w.detach().clone()
    optimizer = SAM(torch.optim.SGD([w], lr=0.0), rho=0.7, p=p)
    optimizer.step(closure(optimizer))
    assert w.detach().numpy().tobytes() == start.numpy().tobytes()


def test_the_norm_is_over_all_groups_together():
    one, other = nn.Parameter(torch.tensor([1.0])), nn.Parameter(torch.tensor([1.0]))
    optimizer = SAM(torch.optim.SGD([{"params": [one]}, {"params": [other], "lr": 0.5}], lr=0.0), 5)
    one.grad, other.grad = torch.tensor([3.0]), torch.tensor([4.0])
    optimizer.first_step()
    assert (one.item(), other.item()) == (pytest.approx(4.0), pytest.approx(5.0))
    optimizer.restore()
    assert (one.item(), other.item()) == (1, 1)


def test_when_maximising_the_worst_point_is_the_lowest():
    w = nn.Parameter(torch.tensor([1.0]))
    optimizer = SAM(torch.optim.SGD([w], lr=0.1, maximize=True), rho=0.25)
    w.grad = torch.tensor([2.0])
    optimizer.first_step()
    assert w.item() == 0.75


def test_a_loss_tensor_that_the_closure_writes_into_again():
    w, a, closure = quadratic()
    total = torch.zeros((), dtype=torch.float64)
    optimizer = SAM(torch.optim.SGD([w], lr=0.01), rho=0.5)
    inner = closure(optimizer)
    before = (w @ a @ w / 2).item()

    def accumulating():
        return total.copy_(inner().detach())

    assert optimizer.step(accumulating).item() == pytest.approx(before)
    assert total.item() > before


def test_closures_may_return_plain_numbers():
    w, _, closure = quadratic()
    optimizer = SAM(torch.optim.SGD([w], lr=0.01))
    inner = closure(optimizer)
    assert optimizer.step(lambda: inner().item()) > 0


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(3, 4)
        self.batch = nn.BatchNorm1d(4)
        self.average = nn.BatchNorm1d(4, momentum=None)
        self.instance = nn.InstanceNorm1d(4, track_running_stats=True)
        self.bare = nn.BatchNorm1d(4, track_running_stats=False)
        self.last = nn.Linear(4, 1)

    def forward(self, x):
        x = self.bare(self.average(self.batch(self.first(x))))
        x = self.instance(x.T[None])[0].T
        return self.last(x)


def statistics(model):
    return {name: x.clone() for name, x in model.named_buffers()}


@pytest.mark.parametrize("frozen", [True, False])
def test_running_statistics_come_from_the_first_pass_alone_when_the_model_is_given(frozen):
    model = Noisy()
    model.batch.eval()
    modes = [module.training for module in model.modules()]
    optimizer = SAM(
        torch.optim.SGD(model.parameters(), lr=0.1), 0.5, model=model if frozen else None
    )
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    after_first = {}

    def closure():
        optimizer.zero_grad()
        loss = model(x).square().mean()
        after_first.setdefault("statistics", statistics(model))
        loss.backward()
        return loss

    optimizer.step(closure)
    first, now = after_first["statistics"], statistics(model)
    same = {name for name in now if torch.equal(now[name], first[name])}
    assert ("average.running_mean" in same) == frozen
    assert ("average.num_batches_tracked" in same) == frozen
    assert ("instance.running_var" in same) == frozen
    assert [module.training for module in model.modules()] == modes
    assert first["average.num_batches_tracked"] == 1


def test_after_an_error_in_the_second_pass_the_weights_are_back():
    w, _, closure = quadratic()
    optimizer = SAM(torch.optim.SGD([w], lr=0.1), rho=0.5)
    inner, calls = closure(optimizer), []

    def failing():
        calls.append(w.detach().clone())
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        return inner()

    with pytest.raises(RuntimeError, match="out of memory"):
        optimizer.step(failing)
    assert not torch.equal(calls[1], calls[0])
    assert torch.equal(w, calls[0])
    with pytest.raises(UsageError, match="needs the gradient at two points"):
        optimizer.step()


def test_by_hand_equals_by_closure():
    w, _, closure = quadratic()
    v, _, other = quadratic()
    by_closure = SAM(torch.optim.SGD([w], lr=0.01, momentum=0.9), rho=0.2)
    by_hand = SAM(torch.optim.SGD([v], lr=0.01, momentum=0.9), rho=0.2)
    for step in range(6):
        by_closure.step(closure(by_closure))
        other(by_hand)()
        by_hand.first_step(zero_grad=True)
        assert v.grad is None
        other(by_hand)()
        if step % 2:
            by_hand.second_step(zero_grad=True)
            assert v.grad is None
        else:
            by_hand.step()
    assert torch.equal(w, v)


def test_a_gradient_scaler_s_scale_cancels_and_a_skipped_step_restores():
    w = nn.Parameter(torch.tensor([1.0, -2.0]))
    v = nn.Parameter(torch.tensor([1.0, -2.0]))
    sam, plain = (SAM(torch.optim.SGD([x], lr=0.1), rho=0.5) for x in (w, v))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def scaled_step(blow_up=1.0):
        sam.zero_grad()
        scaler.scale((w**2).sum()).backward()
        sam.first_step(zero_grad=True)
        scaler.scale((w**2).sum() * blow_up).backward()
        sam.restore()
        scaler.step(sam)
        scaler.update()

    def plain_closure():
        plain.zero_grad()
        loss = (v**2).sum()
        loss.backward()
        return loss

    for _ in range(3):
        scaled_step()
        plain.step(plain_closure)
    assert torch.equal(w, v)
    scaled_step(blow_up=math.inf)
    assert torch.equal(w, v)
    assert scaler.get_scale() == 512
    scaled_step()
    plain.step(plain_closure)
    assert torch.equal(w, v)


def test_without_a_closure_only_state_can_be_set_up():
    w = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = SAM(torch.optim.Adam([w], lr=0.0))
    optimizer.step()
    assert not optimizer.state
    w.grad = torch.zeros(2)
    optimizer.step(closure=None)
    assert set(optimizer.state[w]) == {"step", "exp_avg", "exp_avg_sq"}
    for bad in (1.0, float("nan")):
        w.grad = torch.tensor([0.0, bad])
        with pytest.raises(UsageError, match="pass step\\(\\) a closure"):
            optimizer.step()


def test_steps_out_of_order_are_refused():
    w = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = SAM(torch.optim.SGD([w], lr=0.1))
    w.grad = torch.ones(2)
    optimizer.first_step()
    for action in (
        optimizer.first_step,
        optimizer.state_dict,
        lambda: optimizer.step(lambda: 0.0),
    ):
        with pytest.raises(UsageError, match="still perturbed"):
            action()
    optimizer.restore()
    assert w.tolist() == [1, 2]


def test_nan_gradients_reach_the_weights():
    w = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = SAM(torch.optim.SGD([w], lr=0.1))

    def closure():
        optimizer.zero_grad()
        loss = (w * float("nan")).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).isnan()
    assert w.isnan().all()


def test_around_lookahead_the_slow_weights_never_see_the_perturbation():
    w, _, closure = quadratic()
    optimizer = SAM(Lookahead(torch.optim.SGD([w], lr=0.0), k=1), rho=0.5)
    start = w.detach().clone()
    for _ in range(3):
        optimizer.step(closure(optimizer))
    assert torch.equal(w, start)
    assert torch.equal(optimizer.state_dict()["lookahead"]["slow"][0], start)


@pytest.mark.parametrize(
    "hyper",
    [{"rho": -0.1}, {"rho": math.inf}, {"rho": "0.1"}, {"p": 0.5}, {"p": math.nan}, {"p": True}],
)
def test_impossible_values_are_refused(hyper):
    with pytest.raises(UsageError, match=f"sam: {next(iter(hyper))} must be a number in"):
        SAM(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1), **hyper)


def test_sparse_gradients_are_refused():
    table = nn.Embedding(5, 2, sparse=True)
    optimizer = SAM(torch.optim.SGD(table.parameters(), lr=0.1))
    before = table.weight.detach().clone()

    def closure():
        loss = table(torch.tensor([1, 2])).sum()
        loss.backward()
        return loss

    with pytest.raises(UsageError, match="found a sparse one"):
        optimizer.step(closure)
    assert torch.equal(table.weight, before)
