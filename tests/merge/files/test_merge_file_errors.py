"""Bad input and bad luck: a clear error, inputs untouched, output absent."""

import contextlib
import errno
import json
import os
import pickle
import resource
import signal
import struct
import threading

import pytest
import torch
from checkpoints import digests, forked, read, same, weights, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from thalweg.core.errors import UsageError
from thalweg.merge import merge, merge_files
from thalweg.merge.files import output
from thalweg.merge.files.tensor_file import TensorFile


@pytest.fixture
def pair(tmp_path):
    return [write(tmp_path / n, weights(i), 1 + i) for i, n in enumerate("ab")]


@pytest.fixture
def refused(pair, tmp_path):
    """Return a function that checks that a merge is refused and leaves nothing behind."""
    before = digests(*pair)

    def check(message, models=None, base=None, method="model-soups", out="out", **asked):
        there = set(tmp_path.iterdir())
        with pytest.raises(UsageError, match=message):
            merge_files(
                method, pair if models is None else models, base, out=tmp_path / out, **asked
            )
        assert set(tmp_path.iterdir()) == there
        assert digests(*pair) == before

    return check


def damaged(change):
    """Return the bytes of a file whose header was changed."""
    data = save({"w": torch.ones(3), "v": torch.ones(2)})
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    text = json.dumps(change(header) or header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def changed(**facts):
    return damaged(lambda header: header["w"].update(facts))


WHOLE = save({"w": torch.ones(3), "v": torch.ones(2)})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "shorter than a header"),
        (WHOLE[:4], "shorter than a header"),
        (WHOLE[:40], "header claims"),
        (WHOLE[:-1], "should have"),
        (WHOLE + b"x", "should have"),
        (struct.pack("<Q", 1 << 60) + WHOLE[8:], "header claims"),
        (struct.pack("<Q", 4) + b"nope", "cannot be read"),
        (struct.pack("<Q", 2) + b"[]", "is no object"),
        (damaged(lambda header: {"w": header["w"], "v": 3}), "has no offsets"),
        (changed(data_offsets=[8, 16]), "is not its shape's"),
        (changed(data_offsets=[0, 12]), "begins at byte"),
        (changed(data_offsets=[-8, 12]), "has no offsets"),
        (changed(data_offsets=[12, 0]), "has no offsets"),
        (changed(data_offsets="ab"), "has no offsets"),
        (changed(shape=[3, True]), "has no shape"),
        (changed(shape=[4]), "is not its shape's"),
        (changed(shape=[1 << 61, 8]), "is not its shape's"),
        (changed(dtype="F128"), "is of type 'F128'"),
        (damaged(lambda header: {**header, "__metadata__": {"a": 1}}), "not strings"),
        (struct.pack("<Q", 14) + b'{"w":1,"w":2}\n', "there twice"),
    ],
)
def test_damaged_files_are_refused(data, message, refused, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    refused(message, [path, path])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=1))))
def test_no_damage_breaks_the_reader(tmp_path, changes):
    data = bytearray(WHOLE)
    for place, byte in changes:
        data[place : place + 1] = byte
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with contextlib.suppress(UsageError):
        for entry in TensorFile(path).entries.values():
            assert entry.size * entry.dtype.itemsize <= len(data)


def test_pickles_of_more_than_tensors_are_refused(refused, tmp_path):
    class Harm:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "harm"),))

    torch.save({"w": Harm()}, tmp_path / "new.pt")
    (tmp_path / "old.bin").write_bytes(pickle.dumps({"w": Harm()}))
    (tmp_path / "bad.pt").write_bytes(b"nothing of the kind")
    torch.save({"a": 1}, tmp_path / "empty.pt")
    cut = (tmp_path / "new.pt").read_bytes()[:200]
    (tmp_path / "cut.pt").write_bytes(cut)
    for name, message in (
        ("new.pt", "run any code"),
        ("old.bin", "run any code|damaged"),
        ("bad.pt", "damaged|run any code"),
        ("cut.pt", "damaged|run any code"),
        ("empty.pt", "holds no tensors"),
    ):
        refused(message, [tmp_path / name])
    assert not (tmp_path / "harm").exists()


def test_an_index_cannot_point_outside_of_its_folder(refused, tmp_path):
    save_file({"w": torch.ones(2)}, tmp_path / "outside.safetensors")
    outside = str(tmp_path / "outside.safetensors")
    for shard in ("../outside.safetensors", outside, "..", "", 3, ["outside.safetensors"], None):
        folder = tmp_path / "evil"
        folder.mkdir(exist_ok=True)
        index = {"weight_map": {"w": shard}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        refused("points outside|is refused", [folder])


def test_incomplete_folders_are_refused(refused, tmp_path, pair):
    folder = write(tmp_path / "c", weights(3), 2)
    index = folder / "model.safetensors.index.json"
    whole = index.read_text()
    table = json.loads(whole)
    table["weight_map"]["extra"] = "model-00001-of-00002.safetensors"
    index.write_text(json.dumps(table))
    refused('"extra" is in a file that does not have it', [folder])
    index.write_text("{}")
    refused("has no weight_map", [folder])
    index.write_text("{")
    refused("cannot be read", [folder])
    index.write_text(whole)
    (folder / "model-00002-of-00002.safetensors").unlink()
    refused("cannot read", [folder])
    (tmp_path / "void").mkdir()
    refused("is no model", [tmp_path / "void"])
    (folder / "config.json").write_text("[]")
    index.unlink()
    refused("should hold an object", [folder])


def test_models_that_differ_are_refused(refused, tmp_path, pair):
    a, _ = pair
    other = write(tmp_path / "other", weights(3), config={"model_type": "else"})
    refused("different architectures", [a, other])
    fewer = {n: x for n, x in weights(3).items() if n != "scale"}
    less = write(tmp_path / "less", fewer)
    refused('"scale" is missing in', [a, less])
    refused('"scale" is missing in', base=less, method="ties")
    bent = write(tmp_path / "bent", weights(3) | {"layers.0.bias": torch.ones(7)})
    refused(r'"layers.0.bias" has the shape 6 in .* and 7 in', [a, bent])
    refused("needs the base", method="ties")
    refused("nothing to merge", [])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("method", ["model-soups", "ties", "slerp", "ties(scope='tensor')"])
def test_what_is_not_finite_leaves_no_output(value, method, refused, tmp_path, pair):
    tensors = weights(3)
    tensors["layers.1.weight"][2, 3] = value
    bad = write(tmp_path / "bad", tensors)
    refused(r'"layers.1.weight" in .*bad has entries that are', [pair[0], bad], pair[1], method)


def test_the_output_must_be_a_new_folder(refused, tmp_path, pair):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    refused("not empty", out="full")
    (tmp_path / "file").touch()
    refused("is a file", out="file")
    refused("is a file", out="file/below")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    refused("a link", out="link")
    refused("lies within the input", out="a/inside")
    refused("lies within the input", out="elsewhere/../a/inside")
    refused("number of bytes", shard_size=0)
    (tmp_path / "free").mkdir()
    merge_files("model-soups", pair, out=tmp_path / "free")


def test_a_full_disk_is_seen_before_work_or_cleaned_up_after(refused, monkeypatch, pair):
    usage = type("Usage", (), {"free": 100})
    with monkeypatch.context() as patch:
        patch.setattr(output.shutil, "disk_usage", lambda path: usage)
        refused("make room")

    def full(self, file, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(output.Output, "_write", full)
    refused("the disk is full; nothing was left there")
    refused("the disk is full", out="deep/er/out")


def test_a_limit_on_the_size_of_files_is_like_a_full_disk(tmp_path):
    save_file({"w": torch.ones(300_000)}, tmp_path / "a.safetensors")

    def child():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        with pytest.raises(UsageError, match=r"limit on the size of a file.*nothing was left"):
            merge_files("model-soups", [tmp_path / "a.safetensors"], out=tmp_path / "out")

    assert forked(child) == 0
    assert {p.name for p in tmp_path.iterdir()} == {"a.safetensors"}


def test_a_killed_merge_leaves_no_half_folder_and_the_next_one_clears_up(pair, tmp_path):
    asked = {"out": tmp_path / "out", "shard_size": 200}

    def progress(done, total):
        if done > total / 2:
            os.kill(os.getpid(), signal.SIGKILL)

    status = forked(lambda: merge_files("model-soups", pair, progress=progress, **asked))
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert (tmp_path / ".out.partial").is_dir()
    merge_files("model-soups", pair, **asked)
    assert not (tmp_path / ".out.partial").exists()
    assert same(read(tmp_path / "out"), merge("model-soups", [weights(0), weights(1)]))


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_merge_leaves_nothing(kind, pair, tmp_path):
    def progress(done, total):
        if done > total / 2:
            raise kind

    with pytest.raises(kind):
        merge_files("model-soups", pair, out=tmp_path / "out", progress=progress)
    assert {p.name for p in tmp_path.iterdir()} == {"a", "b"}


def test_two_merges_do_not_write_one_folder(pair, tmp_path):
    waiting, go = threading.Event(), threading.Event()

    def progress(done, total):
        waiting.set()
        assert go.wait(30)

    first = threading.Thread(
        target=merge_files,
        args=("model-soups", pair),
        kwargs={"out": tmp_path / "out", "progress": progress},
    )
    first.start()
    assert waiting.wait(30)
    with pytest.raises(UsageError, match="another process is writing"):
        merge_files("model-soups", pair, out=tmp_path / "out")
    go.set()
    first.join()
    assert same(read(tmp_path / "out"), merge("model-soups", [weights(0), weights(1)]))
