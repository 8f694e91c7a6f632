"""The encoder-decoder transformer."""

import pytest
import torch
from torch.nn.functional import pad

from thalweg.workload.encoder_decoder import (
    END,
    PADDING,
    SPECIAL,
    START,
    Attention,
    EncoderDecoder,
    content,
    greedy,
    pair_loss,
    trim,
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return EncoderDecoder(9, 8, width=16, heads=2, layers=2, wide=32).double().eval()


SOURCE = torch.tensor([[3, 4, 5, 6], [7, 8, 0, 0]])
TARGET = torch.tensor([[1, 3, 4, 5, 2], [1, 6, 2, 0, 0]])


def test_shapes(model):
    assert model(SOURCE, TARGET).shape == (2, 5, 8)
    assert model.encode(SOURCE).shape == (2, 4, 16)


@pytest.mark.parametrize("place", [1, 2, 3, 4])
def test_the_future_does_not_leak(model, place):
    changed = TARGET.clone()
    changed[0, place:] = 7
    before, after = model(SOURCE, TARGET), model(SOURCE, changed)
    assert torch.equal(before[1], after[1])
    assert torch.allclose(before[0, :place], after[0, :place], rtol=0, atol=1e-12)
    assert not torch.allclose(before[0, place:], after[0, place:], atol=1e-6)


def test_the_source_is_read_in_its_order(model):
    before = model(SOURCE, TARGET)
    assert not torch.allclose(before[0], model(SOURCE.flip(1)[:1], TARGET[:1])[0], atol=1e-6)
    for place in range(4):
        changed = SOURCE.clone()
        changed[0, place] = 8
        assert not torch.allclose(before[0, 0], model(changed, TARGET)[0, 0], atol=1e-9)


def test_padding_changes_nothing(model):
    wide_source, wide_target = pad(SOURCE, (0, 3)), pad(TARGET, (0, 2))
    assert torch.allclose(
        model(wide_source, wide_target)[:, :5], model(SOURCE, TARGET), rtol=0, atol=1e-12
    )
    alone = model(SOURCE[1:, :2], TARGET[1:, :3])
    assert torch.allclose(alone[0], model(SOURCE, TARGET)[1, :3], rtol=0, atol=1e-12)
    assert float(pair_loss(model, (wide_source, wide_target)).detach()) == pytest.approx(
        float(pair_loss(model, (SOURCE, TARGET)).detach()), rel=1e-12
    )


def test_the_loss_is_the_mean_over_tokens(model):
    chances = model(SOURCE, TARGET[:, :-1]).log_softmax(2).detach()
    wanted = [
        -float(chances[row, place, TARGET[row, place + 1]])
        for row, length in ((0, 4), (1, 2))
        for place in range(length)
    ]
    loss = float(pair_loss(model, (SOURCE.byte(), TARGET.byte())).detach())
    assert loss == pytest.approx(sum(wanted) / 6, rel=1e-12)


def test_attention_is_the_formula():
    torch.manual_seed(0)
    layer = Attention(6, 2).double()
    hidden, memory = torch.randn(3, 6).double(), torch.randn(4, 6).double()
    seen = torch.tensor([True, True, False, True])
    heads = []
    for head in range(2):
        part = slice(3 * head, 3 * head + 3)
        queries, keys, values = (
            layer.query(hidden)[:, part], layer.key(memory)[:, part], layer.value(memory)[:, part],
        )  # fmt: skip
        scores = (queries @ keys.T / 3**0.5).masked_fill(~seen, -torch.inf)
        heads.append(scores.softmax(1) @ values)
    wanted = layer.mix(torch.cat(heads, 1))
    found = layer(hidden[None], memory[None], seen[None, None, None])
    assert torch.allclose(found[0], wanted)


def test_greedy_takes_the_most_probable_token_until_the_end(model):
    with torch.no_grad():
        model.head.weight *= 20
    outputs = greedy(model, SOURCE, longest=6)
    for row in range(2):
        target = [START]
        while len(target) < 7 and END not in target:
            logits = model(SOURCE[row : row + 1], torch.tensor([target]))
            target.append(int(logits[0, -1].argmax()))
        assert outputs[row] == content(target)


def test_tied_weights_are_one_matrix():
    model = EncoderDecoder(9, 9, width=16, heads=2, layers=1, wide=32, tied=True)
    assert model.head.weight is model.source_embedding.weight
    assert model.target_embedding is model.source_embedding
    assert float(model.head.weight.detach().std()) == pytest.approx(0.25, rel=0.2)


def test_content_and_trim():
    assert content([START, 5, SPECIAL, END, 7, PADDING]) == [5, SPECIAL]
    assert content([START, 5, PADDING]) == [5]
    assert trim(TARGET[1:]).tolist() == [[1, 6, 2]]
    assert trim(torch.zeros(2, 3)).shape == (2, 1)
