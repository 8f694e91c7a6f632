"""The long run on the plays, and the GPT that it shares."""

import torch
from real_data import load_or_skip

from thalweg import workload
from thalweg.workload.gpt import Gpt, next_token_loss, next_token_metric


def test_plays_are_those_of_text():
    found = load_or_skip("plays-gpt")
    short = workload.load("text")
    assert found.train is short.train
    assert found.validation is short.validation
    train = {window.numpy().tobytes() for window in found.train}
    assert not any(window.numpy().tobytes() in train for window in found.validation)


def test_the_future_does_not_leak():
    torch.manual_seed(0)
    model = Gpt(11, 8, width=16, heads=2, blocks=2).double().eval()
    tokens = torch.randint(0, 11, (3, 8))
    before = model(tokens)
    for place in range(1, 8):
        changed = tokens.clone()
        changed[:, place:] = (changed[:, place:] + 1) % 11
        after = model(changed)
        assert torch.allclose(before[:, :place], after[:, :place], rtol=0, atol=1e-12)
        assert not torch.allclose(before[:, place], after[:, place], atol=1e-6)


def test_tied_weights_are_one_matrix():
    model = Gpt(11, 8, width=16, heads=2, blocks=2, tied=True)
    assert model.head.weight is model.tokens.weight
    apart = Gpt(11, 8, width=16, heads=2, blocks=2)
    counts = [sum(p.numel() for p in one.parameters()) for one in (model, apart)]
    assert counts[1] - counts[0] == 11 * 16


def test_the_metric_is_the_cross_entropy_of_each_window():
    torch.manual_seed(0)
    model = Gpt(11, 8, width=16, heads=2, blocks=1).requires_grad_(False)
    windows = torch.randint(0, 11, (3, 9))
    chances = model(windows[:, :-1]).log_softmax(2)
    wanted = [
        -sum(float(chances[row, place, windows[row, place + 1]]) for place in range(8)) / 8
        for row in range(3)
    ]
    assert torch.allclose(next_token_metric(model, windows), torch.tensor(wanted))
    assert torch.allclose(next_token_loss(model, windows), torch.tensor(sum(wanted) / 3))
