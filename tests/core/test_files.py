"""Files are whole or absent; a folder is refused before anything is made; locks die with us."""

import os

import pytest

from thalweg.core import files
from thalweg.core.errors import UsageError


def test_a_write_replaces_the_whole_file_and_leaves_nothing_else(tmp_path):
    file = tmp_path / "a.csv"
    files.write_atomically(file, "old\n")
    files.write_atomically(file, b"new\n")
    assert file.read_text() == "new\n"
    assert os.listdir(tmp_path) == ["a.csv"]


def test_a_write_that_fails_keeps_the_old_content(tmp_path, monkeypatch):
    file = tmp_path / "a.csv"
    files.write_atomically(file, "old\n")

    def full(_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        files.write_atomically(file, "new\n")
    assert file.read_text() == "old\n"
    assert os.listdir(tmp_path) == ["a.csv"]


def test_checking_a_folder_makes_nothing(tmp_path):
    files.check_folder(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_named(tmp_path):
    file = tmp_path / "taken"
    file.touch()
    for path in (file, file / "below"):
        with pytest.raises(UsageError, match="taken is a file"):
            files.check_folder(path)


def test_missing_permission_is_said_so(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # a superuser may write anywhere
    with pytest.raises(UsageError, match="no permission"):
        files.check_folder(tmp_path / "a")


def test_a_folder_that_the_system_refuses_is_taken_back(tmp_path, monkeypatch):
    def refuse(self, *_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.touch", refuse)
    with pytest.raises(UsageError, match="Permission denied"):
        files.make_folder(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="Permission denied"):
        files.make_folder(tmp_path)
    assert tmp_path.exists()


def test_a_folder_that_cannot_exist_is_refused():
    with pytest.raises(UsageError, match="cannot write"):
        files.make_folder(files.Path("/proc/thalweg/race"))


def test_a_lock_is_for_one(tmp_path):
    lock = tmp_path / "lock"
    # Another process is tried in test_kill.py.
    refused = pytest.raises(UsageError, match="busy")
    with files.locked(lock, "busy"), refused, files.locked(lock, "busy"):
        lock.unlink()
    assert lock.exists()
    with files.locked(lock, "busy"):
        assert lock.exists()
