"""Where the server listens, and what it says when it cannot."""

import socket
import subprocess
import sys

import pytest

from thalweg.core.errors import UsageError
from thalweg.serve import server
from thalweg.serve.server import listen, serve


def run(*arguments):
    code = "import sys; from thalweg.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_port_in_use_is_named_with_the_way_out(begun):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(begun, "--port", port)
    assert done.returncode == 2
    assert f"port {port} of 127.0.0.1 is in use" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("host", "port", "message"),
    [
        ("203.0.113.9", 0, "no address of this machine"),
        ("no such host", 0, "cannot listen on"),
        ("127.0.0.1", 70000, "from 0 to 65535"),
        ("127.0.0.1", -1, "from 0 to 65535"),
    ],
)
def test_an_unusable_address_is_refused(begun, host, port, message):
    with pytest.raises(UsageError, match=message):
        serve(begun, host, port)


def test_a_folder_without_a_race_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no race found"):
        serve(tmp_path, port=0)


@pytest.mark.parametrize(
    ("host", "loopback"), [("127.0.0.1", True), ("localhost", True), ("0.0.0.0", False)]
)
def test_the_loopback_is_told_apart(host, loopback):
    listener, found = listen(host, 0)
    listener.close()
    assert found is loopback


@pytest.mark.parametrize(("host", "guarded"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_beyond_this_machine_there_is_a_fresh_token(begun, monkeypatch, host, guarded):
    given, addresses = [], []
    monkeypatch.setattr(server.uvicorn.Server, "run", lambda self, sockets: None)
    monkeypatch.setattr(
        server, "application", lambda *a, **settings: given.append(settings) or (lambda *_: None)
    )
    for _ in range(2):
        serve(begun, host, 0, addresses.append)
    tokens = [settings["token"] for settings in given]
    if not guarded:
        assert tokens == [None, None]
        assert not any(settings["any_address"] for settings in given)
        assert all("token" not in address for address in addresses)
        return
    assert len(set(tokens)) == 2
    assert all(len(token) >= 43 for token in tokens)  # 32 random bytes
    assert all(a.endswith(f"?token={t}") for a, t in zip(addresses, tokens, strict=True))
