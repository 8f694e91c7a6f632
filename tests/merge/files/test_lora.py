"""LoRA adapters are merged into their base as they are read."""

import json
import math

import pytest
import torch
from checkpoints import read, write
from safetensors.torch import save_file
from torch import nn

from thalweg.core.errors import UsageError
from thalweg.merge import merge_files, open_checkpoint

PREFIX = "base_model.model."
RANK, ALPHA = 2, 6.0


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj = nn.Linear(5, 4)
        self.v_proj = nn.Linear(5, 5)
        self.conv = nn.Conv2d(2, 3, 3)
        self.embed = nn.Embedding(7, 5)
        self.head = nn.Linear(4, 2)


def base_weights():
    torch.manual_seed(0)
    return Net().state_dict()


def adapter(folder, tensors, **config):
    folder.mkdir()
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, **config}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    tensors = {PREFIX + n: x.clone() for n, x in tensors.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def pair(module, a, b):
    return {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}


@pytest.fixture
def base(tmp_path):
    return write(tmp_path / "base", base_weights())


def merged(base, folder):
    source = open_checkpoint(folder, base)
    return {
        n: source.read(n, 0, e.size).clone().reshape(e.shape) for n, e in source.entries.items()
    }


def test_a_linear_layer_by_its_definition(base, tmp_path):
    a, b = torch.randn(RANK, 5), torch.randn(4, RANK)
    x = torch.randn(3, 5)
    wanted = base_weights()
    layer = nn.Linear(5, 4)
    layer.weight.data, layer.bias.data = wanted["q_proj.weight"], wanted["q_proj.bias"]
    for place, (config, scale) in enumerate(
        (
            ({}, ALPHA / RANK),
            ({"use_rslora": True}, ALPHA / math.sqrt(RANK)),
            ({"alpha_pattern": {"q_proj": 8}}, 8 / RANK),
            ({"alpha_pattern": {"v_proj": 8}}, ALPHA / RANK),
        )
    ):
        found = merged(base, adapter(tmp_path / f"{place}", pair("q_proj", a, b), **config))
        out = nn.functional.linear(x, found["q_proj.weight"], found["q_proj.bias"])
        torch.testing.assert_close(out, layer(x) + scale * (x @ a.T) @ b.T)
        assert torch.equal(found["v_proj.weight"], wanted["v_proj.weight"])


def test_pieces_are_rows_of_the_whole(base, tmp_path):
    a, b = torch.randn(RANK, 5), torch.randn(4, RANK)
    source = open_checkpoint(adapter(tmp_path / "x", pair("q_proj", a, b)), base)
    whole = source.read("q_proj.weight", 0, 20).clone()
    for start in range(20):
        for stop in range(start + 1, 21):
            part = source.read("q_proj.weight", start, stop)
            torch.testing.assert_close(part, whole[start:stop])


def test_convolutions_embeddings_and_transposed_layers(base, tmp_path):
    wanted, scale = base_weights(), ALPHA / RANK
    a, b = torch.randn(RANK, 2, 3, 3), torch.randn(3, RANK, 1, 1)
    found = merged(base, adapter(tmp_path / "conv", pair("conv", a, b)))
    x = torch.randn(1, 2, 5, 5)
    conv = nn.functional.conv2d
    torch.testing.assert_close(
        conv(x, found["conv.weight"]),
        conv(x, wanted["conv.weight"]) + scale * conv(conv(x, a), b),
    )
    a, b = torch.randn(RANK, 7), torch.randn(5, RANK)
    words = {"embed.lora_embedding_A": a, "embed.lora_embedding_B": b}
    found = merged(base, adapter(tmp_path / "embed", words))
    torch.testing.assert_close(found["embed.weight"], wanted["embed.weight"] + scale * (a.T @ b.T))
    # As of a layer that stores (in, out): 4 in, 5 out.
    a, b = torch.randn(RANK, 4), torch.randn(5, RANK)
    found = merged(base, adapter(tmp_path / "t", pair("q_proj", a, b), fan_in_fan_out=True))
    torch.testing.assert_close(found["q_proj.weight"], wanted["q_proj.weight"] + scale * (b @ a).T)


def test_tensors_that_are_held_whole_take_the_bases_place(base, tmp_path):
    head = {"head.modules_to_save.weight": torch.ones(2, 4), "head.bias": torch.ones(2)}
    found = merged(base, adapter(tmp_path / "x", head))
    assert torch.equal(found["head.weight"], torch.ones(2, 4))
    assert torch.equal(found["head.bias"], torch.ones(2))


def test_adapters_merge_like_models(base, tmp_path):
    folders = []
    for i in range(2):
        torch.manual_seed(i)
        a, b = torch.randn(RANK, 5), torch.randn(4, RANK)
        folders.append(adapter(tmp_path / f"{i}", pair("q_proj", a, b)))
    merge_files("task-arithmetic(scale=0.5)", folders, base, out=tmp_path / "out")
    wanted = sum(merged(base, folder)["q_proj.weight"] for folder in folders) / 2
    found = read(tmp_path / "out")
    torch.testing.assert_close(found["q_proj.weight"], wanted)
    assert (tmp_path / "out/config.json").exists()
    # One adapter alone is merged in, with the base that its configuration names.
    named = adapter(tmp_path / "n", pair("q_proj", a, b), base_model_name_or_path=str(base))
    merge_files("model-soups", [named], out=tmp_path / "one")
    torch.testing.assert_close(
        read(tmp_path / "one")["q_proj.weight"], merged(base, folders[1])["q_proj.weight"]
    )


def test_what_is_no_plain_lora_of_this_base_is_refused(base, tmp_path):
    a, b = torch.zeros(RANK, 5), torch.zeros(4, RANK)
    cases = [
        (pair("q_proj", a, b), {"use_dora": True}, "of type DoRA"),
        (pair("q_proj", a, b), {"peft_type": "IA3"}, "of type IA3"),
        (pair("q_proj", a, b), {"lora_alpha": None}, "no lora_alpha"),
        (pair("q_proj", a, b), {"alpha_pattern": {"(": 1}}, "cannot be read"),
        (pair("q_proj", a, b), {"alpha_pattern": [1]}, "cannot be read"),
        (pair("q_proj", a, b), {"alpha_pattern": {"q_proj": "x"}}, "cannot be read"),
        (pair("q_proj", a[:0], b[:, :0]), {}, "of rank 0"),
        (pair("q_proj", a[0, 0], b), {}, "of rank 0"),
        (pair("k_proj", a, b), {}, "it is the wrong base"),
        (pair("v_proj", a, b), {}, "it is the wrong base"),
        ({"q_proj.lora_A.weight": a}, {}, "only one of the two"),
        (pair("q_proj", a, b) | {"q_proj.lora_magnitude_vector": b}, {}, "no part of plain LoRA"),
    ]
    for place, (tensors, config, message) in enumerate(cases):
        folder = adapter(tmp_path / f"case{place}", tensors, **config)
        with pytest.raises(UsageError, match=message):
            open_checkpoint(folder, base)
    folder = adapter(tmp_path / "alone", pair("q_proj", a, b), base_model_name_or_path="nowhere")
    with pytest.raises(UsageError, match="adapter of nowhere, which is not on this disk"):
        open_checkpoint(folder)
    odd = adapter(tmp_path / "odd", pair("q_proj", a, b), base_model_name_or_path=3)
    with pytest.raises(UsageError, match="adapter of 3, which is not on this disk"):
        open_checkpoint(odd)
    with pytest.raises(UsageError, match="is an adapter itself"):
        open_checkpoint(folder, folder)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(UsageError, match="has no adapter_model"):
        open_checkpoint(folder, base)
