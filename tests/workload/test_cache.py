"""Prepared data: once, whole, and checked."""

import multiprocessing
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from thalweg.core.errors import UsageError
from thalweg.workload import cache, fetched
from thalweg.workload.cache import data_folder, digest, prepared, verified


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path))
    return tmp_path / "data"


def tensors():
    return {"b": torch.arange(6, dtype=torch.uint8).view(2, 3).T, "a": torch.tensor([0.5, -1.0])}


def never():
    raise AssertionError("prepared again")


def test_prepared_once_and_read_again(own_cache):
    first = prepared("numbers", tensors, digest(tensors()))
    again = prepared("numbers", never, digest(tensors()))
    for key, value in tensors().items():
        assert torch.equal(first[key], value)
        assert torch.equal(again[key], value)
    assert {file.name for file in own_cache.iterdir()} == {"numbers.safetensors", ".numbers.lock"}


def test_digest_sees_names_types_shapes_and_values():
    one = tensors()
    others = [
        {"b": one["b"], "c": one["a"]},
        {"b": one["b"].float(), "a": one["a"]},
        {"b": one["b"].reshape(2, 3), "a": one["a"]},
        {"b": one["b"] + 1, "a": one["a"]},
    ]
    digests = {digest(each) for each in [one, *others]}
    assert len(digests) == 5
    assert digest(dict(reversed(one.items()))) == digest(one)


def test_other_data_than_the_known_are_refused_and_not_kept(own_cache):
    with pytest.raises(UsageError, match=r"numbers are not the known ones.*expected SHA-256 00"):
        prepared("numbers", tensors, "00")
    assert not (own_cache / "numbers.safetensors").exists()


@pytest.mark.parametrize("known", [True, False])
def test_a_damaged_file_is_refused(own_cache, known):
    sha256 = digest(tensors()) if known else None
    prepared("numbers", tensors, sha256)
    file = own_cache / "numbers.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UsageError, match=r"numbers.safetensors is damaged.*delete it"):
        prepared("numbers", never, sha256)
    file.write_bytes(content[:40])
    with pytest.raises(UsageError, match=r"cannot be read.*delete it"):
        prepared("numbers", never, sha256)


def test_a_file_without_a_digest_is_refused(own_cache):
    own_cache.mkdir()
    save_file({"a": torch.ones(2)}, own_cache / "numbers.safetensors")
    with pytest.raises(UsageError, match="expected SHA-256 None"):
        prepared("numbers", never)


def test_a_failed_preparation_leaves_nothing(own_cache):
    with pytest.raises(AssertionError):
        prepared("numbers", never)
    assert prepared("numbers", tensors)
    assert load_file(own_cache / "numbers.safetensors").keys() == {"a", "b"}


def test_an_impossible_folder_names_the_variable(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="set THALWEG_CACHE"):
        prepared("numbers", tensors)


def test_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("THALWEG_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data_folder() == tmp_path / "thalweg" / "data"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data_folder() == Path.home() / ".cache" / "thalweg" / "data"


def count_and_prepare(log):
    def prepare():
        with open(log, "a") as file:
            file.write("x")
        import time

        time.sleep(0.3)
        return tensors()

    assert torch.equal(prepared("numbers", prepare)["a"], tensors()["a"])


def test_processes_wait_for_the_one_that_prepares(tmp_path):
    context = multiprocessing.get_context("fork")
    log = tmp_path / "log"
    processes = [context.Process(target=count_and_prepare, args=(log,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert log.read_text() == "x"


def test_patience_ends(monkeypatch, own_cache):
    monkeypatch.setattr(cache, "PATIENCE", 0.01)

    def prepare_inside():
        return prepared("numbers", tensors)

    with pytest.raises(UsageError, match="another process has been preparing numbers"):
        prepared("numbers", prepare_inside)


def test_a_source_file_is_verified(tmp_path):
    file = tmp_path / "source"
    file.write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2
    assert verified(file, known) == b"abc"
    file.write_bytes(b"abd")
    with pytest.raises(UsageError, match=f"expected SHA-256 {known}"):
        verified(file, known)
    with pytest.raises(UsageError, match="cannot read"):
        verified(tmp_path / "none", known)


def fake(folder, name, script):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def programs(monkeypatch, tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def test_installed_debian_files_are_used(programs, tmp_path):
    (tmp_path / "data.gz").touch()
    fake(programs, "dpkg-query", f"echo /tmp; echo {tmp_path}/data.gz")
    with fetched.debian_files("some-data", "task") as files:
        assert files == [tmp_path / "data.gz"]


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="no dpkg-deb here")
def test_debian_packages_are_downloaded_and_unpacked(programs, tmp_path):
    built = tmp_path / "built"
    (built / "DEBIAN").mkdir(parents=True)
    (built / "usr" / "share").mkdir(parents=True)
    (built / "usr" / "share" / "data.txt").write_text("hello")
    (built / "DEBIAN" / "control").write_text(
        "Package: some-data\nVersion: 1\nArchitecture: all\nMaintainer: n <n@n>\nDescription: d\n"
    )
    subprocess.run(["dpkg-deb", "-b", built, tmp_path / "some.deb"], check=True, text=True)
    fake(programs, "dpkg-query", "exit 1")
    fake(programs, "apt-get", f'[ "$3" = some-data ] && cp {tmp_path}/some.deb .')
    with fetched.debian_files("some-data", "task") as files:
        found = fetched.find(files, "share/data.txt")
        assert found.read_text() == "hello"
    assert not found.exists()
    with (
        pytest.raises(UsageError, match=r"apt-get install other-data.*sources/other-data"),
        fetched.debian_files("other-data", "task"),
    ):
        pass


def test_npm_packages_are_packed_and_unpacked(programs, tmp_path):
    (tmp_path / "package" / "data").mkdir(parents=True)
    (tmp_path / "package" / "data" / "set.json").write_text("[]")
    fake(programs, "npm", f'case "$4" in @a/b@1.0) tar -czf a.tgz -C {tmp_path} package;; *) '
         "echo E404 >&2; exit 1;; esac")  # fmt: skip
    with fetched.npm_files("@a/b", "1.0", "task") as files:
        assert fetched.find(files, "set.json").read_text() == "[]"
        with pytest.raises(UsageError, match=r"no file et.json among 1"):
            fetched.find(files, "et.json")
    with (
        pytest.raises(UsageError, match=r'"task".*@a/b@2.0.*npm pack failed: E404'),
        fetched.npm_files("@a/b", "2.0", "task"),
    ):
        pass


def test_files_that_the_user_provides_come_first(own_cache, monkeypatch):
    monkeypatch.setenv("PATH", "")
    for folder in ("sources/some-data/deep", "sources/@a+b"):
        (own_cache / folder).mkdir(parents=True)
        (own_cache / folder / "x.gz").touch()
    with fetched.debian_files("some-data", "task") as files:
        assert files == [own_cache / "sources/some-data/deep/x.gz"]
    with fetched.npm_files("@a/b", "1", "task") as files:
        assert files == [own_cache / "sources/@a+b/x.gz"]
    with (
        pytest.raises(UsageError, match=r"install npm .*there is no npm here"),
        fetched.npm_files("c", "1", "task"),
    ):
        pass
    with (
        pytest.raises(UsageError, match=r"apt-get install c,.*there is no apt-get here"),
        fetched.debian_files("c", "task"),
    ):
        pass


def test_a_program_that_hangs_is_ended(programs, monkeypatch):
    monkeypatch.setattr(fetched, "TIME_OUT", 0.1)
    fake(programs, "npm", "exec sleep 30")
    with (
        pytest.raises(UsageError, match=r"npm pack took over 0.1 s"),
        fetched.npm_files("a", "1", "task"),
    ):
        pass
