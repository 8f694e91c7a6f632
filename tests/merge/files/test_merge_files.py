"""Merges of files equal merges in memory, to the bit, in whatever form the files are."""

import hashlib
import json
import resource

import pytest
import torch
from checkpoints import SHAPES, digests, forked, read, same, weights, write
from safetensors.torch import load_model, save_file, save_model
from torch import nn

from thalweg.core.errors import UsageError
from thalweg.core.registry import slugs
from thalweg.landscape import Objective
from thalweg.merge import merge, merge_files, named, open_checkpoint
from thalweg.merge.files import output

PLAIN = [
    slug for slug in slugs("merge") if not (named(slug).chooses or named(slug).needs_statistics)
]


@pytest.fixture
def three(tmp_path):
    """Two models and their base: one file, two shards, four shards."""
    return [
        write(tmp_path / label, weights(seed), shards)
        for seed, (label, shards) in enumerate((("a", 1), ("b", 2), ("base", 4)), 1)
    ]


@pytest.mark.parametrize("slug", [*PLAIN, "ties(scope='tensor')", "slerp(scope='global')"])
def test_files_give_what_memory_gives(slug, three, tmp_path):
    a, b, base = three
    before = digests(*three)
    done = merge_files(slug, [a, b], base, out=tmp_path / "out", shard_size=300)
    assert same(read(tmp_path / "out"), merge(slug, [weights(1), weights(2)], weights(3)))
    assert digests(*three) == before
    index = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == done.size
    assert index["weight_map"].keys() == weights(1).keys()
    assert set(index["weight_map"].values()) == {p.name for p in done.out.glob("*.safetensors")}


def test_statistics_come_from_files(three, tmp_path):
    a, b, _ = three
    fishers = []
    for seed in (1, 2):
        random = torch.Generator().manual_seed(seed)
        fishers.append({n: torch.rand(SHAPES[n], generator=random) for n in list(SHAPES)[:4]})
        save_file(fishers[-1], tmp_path / f"fisher{seed}.safetensors")
    paths = [tmp_path / f"fisher{seed}.safetensors" for seed in (1, 2)]
    merge_files("fisher-merge", [a, b], statistics=paths, out=tmp_path / "out")
    wanted = merge("fisher-merge", [weights(1), weights(2)], statistics=fishers)
    assert same(read(tmp_path / "out"), wanted)
    grams = [{"layers.1.weight": torch.eye(6) * seed} for seed in (1, 3)]
    merge_files("regmean", [a, b], statistics=grams, out=tmp_path / "gram")
    wanted = merge("regmean", [weights(1), weights(2)], statistics=grams)
    assert same(read(tmp_path / "gram"), wanted)


def test_merges_that_choose_load_the_models(three, tmp_path):
    a, b, _ = three
    score = {"score": lambda w: -w["scale"].abs().item()}
    done = merge_files("greedy-soup", [a, b], out=tmp_path / "out", **score)
    assert same(read(done.out), merge("greedy-soup", [weights(1), weights(2)], **score))
    assert sorted(done.method.weights) in ([0, 1], [1, 1])
    model = nn.Linear(2, 1)
    for seed in (1, 2):
        torch.manual_seed(seed)
        save_file(nn.Linear(2, 1).state_dict(), tmp_path / f"{seed}.safetensors")
    objective = Objective(model, lambda m, x: m(x).square().mean(), [torch.ones(3, 2)])
    files = [tmp_path / "1.safetensors", tmp_path / "2.safetensors"]
    merge_files("learned-soup", files, objective=objective, out=tmp_path / "learnt")


def test_the_folder_says_what_it_is(three, tmp_path):
    a, b, base = three
    (base / "tokenizer.json").write_text("{}")
    (base / "merges.txt").write_text("x")
    (base / "secret.py").write_text("print()")
    done = merge_files(
        "task-arithmetic", [a, b], base, out=tmp_path / "new/out", dtype=torch.bfloat16
    )
    names = {path.name for path in done.out.iterdir()}
    assert names == {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "merges.txt",
        "merge.json",
        "SHA256SUMS",
    }
    assert json.loads((done.out / "config.json").read_text())["dtype"] == "bfloat16"
    assert read(done.out)["scale"].dtype == torch.bfloat16
    record = json.loads((done.out / "merge.json").read_text())
    assert (record["merge"], record["models"]) == ("TaskArithmetic", [str(a), str(b)])
    for line in (done.out / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((done.out / name).read_bytes()).hexdigest() == digest
        assert done.files[name] == digest
    assert {p.name for p in (tmp_path / "new").iterdir()} == {"out"}


def test_the_same_merge_is_the_same_file(three, tmp_path):
    a, b, base = three
    one = merge_files("dare", [a, b], base, out=tmp_path / "one").files
    other = merge_files("dare", [a, b], base, out=tmp_path / "other").files
    assert one == other


def test_torch_checkpoints_are_read_without_running_them(three, tmp_path):
    a = three[0]
    wanted = merge("model-soups", [weights(1), weights(2)])
    run = {"model_state_dict": weights(2), "step": 7, "optimizer": {"lr": 0.1}}
    for place, (content, old) in enumerate(((weights(2), False), (weights(2), True), (run, False))):
        path = tmp_path / f"{place}.pt"
        torch.save(content, path, _use_new_zipfile_serialization=not old)
        merge_files("model-soups", [a, path], out=tmp_path / f"out{place}")
        assert same(read(tmp_path / f"out{place}"), wanted)
    folder = tmp_path / "bin"
    folder.mkdir()
    parts = [dict(list(weights(2).items())[i::2]) for i in range(2)]
    table = {}
    for i, part in enumerate(parts):
        torch.save(part, folder / f"pytorch_model-{i}.bin")
        table |= dict.fromkeys(part, f"pytorch_model-{i}.bin")
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": table}))
    merge_files("model-soups", [a, folder], out=tmp_path / "outbin")
    assert same(read(tmp_path / "outbin"), wanted)


class Tied(nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.embed = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight


def test_ties_stay_ties_in_files(tmp_path):
    for seed in (1, 2):
        save_model(Tied(seed), str(tmp_path / f"{seed}.safetensors"))
        torch.save(Tied(seed).state_dict(), tmp_path / f"{seed}.pt")
    wanted = merge("model-soups", [Tied(1), Tied(2)])
    for suffixes in (("safetensors",) * 2, ("pt", "pt")):
        files = [tmp_path / f"{i}.{suffix}" for i, suffix in enumerate(suffixes, 1)]
        out = tmp_path / suffixes[0]
        merge_files("model-soups", files, out=out)
        assert len(read(out)) == 1
        model = Tied(3)
        load_model(model, str(out / "model.safetensors"))
        assert torch.equal(model.head.weight, wanted["embed.weight"])


def test_a_head_that_the_configuration_ties_is_read_from_the_embedding(tmp_path):
    tied = {"model.embed_tokens.weight": torch.ones(4, 2)}
    both = {"model.embed_tokens.weight": torch.zeros(4, 2), "lm_head.weight": torch.full((4, 2), 3)}
    both["lm_head.weight"] = both["lm_head.weight"].float()
    a = write(tmp_path / "a", tied, config={"model_type": "x", "tie_word_embeddings": True})
    b = write(tmp_path / "b", both, config={"model_type": "x", "tie_word_embeddings": False})
    merge_files("model-soups", [a, b], out=tmp_path / "ab")
    found = read(tmp_path / "ab")
    assert found["lm_head.weight"].unique().tolist() == [2.0]
    assert found["model.embed_tokens.weight"].unique().tolist() == [0.5]
    merge_files("model-soups", [a, a], out=tmp_path / "aa")
    assert read(tmp_path / "aa").keys() == {"model.embed_tokens.weight"}


def test_notes_say_what_a_user_should_know(tmp_path):
    a = {"w": torch.ones(2), "norm.running_mean": torch.ones(2), "only": torch.ones(1)}
    b = {"w": torch.ones(2, dtype=torch.float16), "norm.running_mean": torch.ones(2)}
    for name, tensors in (("a", a), ("b", b)):
        save_file(tensors, tmp_path / f"{name}.safetensors")
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    notes = " ".join(merge_files("model-soups", files, out=tmp_path / "out", keys="all").notes)
    for text in ("kept: only", "batch-norm", "float32 in the result: w", "no model is a folder"):
        assert text in notes


def test_a_model_far_from_its_base_is_pointed_out(tmp_path):
    random = torch.Generator().manual_seed(0)
    base = {"w": torch.randn(100, generator=random), "v": torch.randn(9, generator=random)}
    near = {n: x + 0.1 for n, x in base.items()}
    other = {n: torch.randn(x.shape, generator=random) for n, x in base.items()}
    paths = [write(tmp_path / n, x) for n, x in zip("abc", (base, near, other), strict=True)]
    (note,) = merge_files("ties", paths[1:], paths[0], out=tmp_path / "out").notes
    assert note.startswith(f"{paths[2]} is 1.")
    assert "was it fine-tuned from it?" in note


def test_the_configuration_names_the_dtype_of_the_result(tmp_path):
    config = {"model_type": "tiny", "torch_dtype": "bfloat16"}
    a = write(tmp_path / "a", weights(0, torch.bfloat16), config=config)
    b = write(tmp_path / "b", weights(1, torch.float16), config=config)
    for models, dtype in (([a, a], "bfloat16"), ([a, b], "float32")):
        out = tmp_path / dtype
        merge_files("model-soups", models, out=out)
        assert json.loads((out / "config.json").read_text())["torch_dtype"] == dtype
    odd = write(tmp_path / "odd", weights(2), config={"torch_dtype": {"text": "bfloat16"}})
    merge_files("model-soups", [odd], out=tmp_path / "named")
    assert json.loads((tmp_path / "named/config.json").read_text())["torch_dtype"] == "float32"


def test_progress_counts_to_its_end(three, tmp_path):
    a, b, base = three
    seen = []
    merge_files("ties", [a, b], base, out=tmp_path / "o", progress=lambda *x: seen.append(x))
    assert seen[-1][0] == seen[-1][1]
    assert [x[0] for x in seen] == sorted(x[0] for x in seen)


def test_memory_does_not_grow_with_the_models(tmp_path, monkeypatch):
    """Six tensors of 8 MB in each model; a process that held two of them would take 16 MB."""
    monkeypatch.setattr(output, "_IN_FLIGHT", 1 << 20)
    for name in "ab":
        tensors = {f"t{i}": torch.full((2_000_000,), float(i)) for i in range(6)}
        save_file(tensors, tmp_path / f"{name}.safetensors")
        save_file({"t": torch.ones(10)}, tmp_path / f"small-{name}.safetensors")
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]

    def child():
        # The first merge of a process brings in what the code itself takes.
        small = [tmp_path / f"small-{name}.safetensors" for name in "ab"]
        merge_files("slerp", small, out=tmp_path / "first")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        merge_files("slerp", files, out=tmp_path / "out", shard_size=20_000_000)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 12 * 1024

    assert forked(child) == 0


def test_open_checkpoint_lists_what_is_there(three):
    source = open_checkpoint(three[1])
    assert {n: e.shape for n, e in source.entries.items()} == {**SHAPES, "places": (5,)}
    for name, x in weights(2).items():
        last = x.numel()
        assert torch.equal(source.read(name, last // 2, last), x.flatten()[last // 2 :])
    with pytest.raises(UsageError, match="there is no checkpoint"):
        open_checkpoint(three[1] / "none")
