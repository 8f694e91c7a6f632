"""What the live page's server gives away, and what it refuses."""

import os

import pytest
from starlette.testclient import TestClient

from thalweg.core.errors import UsageError
from thalweg.serve import application
from thalweg.serve.guard import COOKIE, Guard
from thalweg.serve.inside import read_inside

SECRET = "nobody may read this"
TOKEN = "the-right-token"


@pytest.fixture
def folder(begun):
    (begun.parent / "outside.txt").write_text(SECRET)
    (begun / "weights").mkdir(exist_ok=True)
    (begun / "weights" / "final.safetensors").write_text(SECRET)
    (begun / "notes.txt").write_text(SECRET)
    (begun / "results.csv").write_text("entrant,recipe\n")
    return begun


@pytest.fixture
def client(folder):
    return TestClient(application(folder), base_url="http://localhost:8765")


def raw(app, path, headers, query=b""):
    """Send a request whose path and headers no client would send, and return status and body."""
    import asyncio

    scope = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(),
        "query_string": query, "headers": headers, "scheme": "http", "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1), "root_path": "", "http_version": "1.1",
    }  # fmt: skip
    sent = []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], b"".join(m.get("body", b"") for m in sent[1:])


def test_the_page_needs_nothing_from_elsewhere(client):
    answer = client.get("/")
    assert answer.status_code == 200
    assert "Quadratic" in answer.text
    assert "connect-src 'self'" in answer.headers["content-security-policy"]
    for name, value in {
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
        "cache-control": "no-store",
    }.items():
        assert answer.headers[name] == value
    for word in ('src="http', "src='http", "@import", "cdn."):
        assert word not in answer.text.split('id="plotly"')[0]


@pytest.mark.parametrize(
    "path",
    [
        "/../outside.txt",
        "/..%2foutside.txt",
        "/%2e%2e/outside.txt",
        "/%2e%2e%2foutside.txt",
        "/..%252foutside.txt",
        "/..%5coutside.txt",
        "/results.csv/../../outside.txt",
        "/results.csv%00",
        "//etc/passwd",
        "/etc/passwd",
        "/%2fetc%2fpasswd",
        "/file:///etc/passwd",
        "/notes.txt",
        "/race.sqlite",
        "/race.lock",
        "/weights/final.safetensors",
        "/live/",
        "/static/live.js",
    ],
)
def test_no_other_path_can_be_read(folder, client, path):
    answer = client.get("http://localhost:8765" + path)
    assert answer.status_code in (400, 404)
    assert SECRET not in answer.text
    # And as bytes that no client normalises.
    status, body = raw(application(folder), path, [(b"host", b"localhost")])
    assert status in (400, 404)
    assert SECRET.encode() not in body
    assert b"root:" not in body


def test_every_way_back_to_the_folder_is_a_fixed_name(client):
    assert client.get("/results.csv").text == "entrant,recipe\n"
    assert client.get("/verdict.json").status_code == 404
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert client.request(method, "/").status_code == 405
    assert client.get("/results.csv", params={"path": "../outside.txt"}).text.startswith("entrant")


def test_links_are_not_followed(folder, client):
    (folder / "results.csv").unlink()
    (folder / "results.csv").symlink_to(folder.parent / "outside.txt")
    (folder / "verdict.json").symlink_to(folder / "notes.txt")
    for name in ("results.csv", "verdict.json"):
        answer = client.get(f"/{name}")
        assert answer.status_code == 404
        assert SECRET not in answer.text


def test_what_is_not_a_plain_file_of_the_folder_is_not_read(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_text(SECRET)
    inside = tmp_path / "in"
    (inside / "file").write_bytes(b"yes")
    (inside / "folder").mkdir()
    (inside / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(inside / "pipe")
    assert read_inside(inside, "file") == b"yes"
    for name in ("folder", "link", "pipe", "../secret", str(tmp_path / "secret"), "none", "..", ""):
        assert read_inside(inside, name) is None, name


def test_a_linked_store_and_linked_live_files_are_refused(begun, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "race.sqlite").symlink_to(begun / "race.sqlite")
    with pytest.raises(UsageError, match="is a link"):
        application(other)
    from thalweg.race.live import read_live

    assert len(read_live(begun)) == 1
    (live,) = (begun / "live").iterdir()
    live.rename(tmp_path / "elsewhere.json")
    live.symlink_to(tmp_path / "elsewhere.json")
    assert read_live(begun) == []


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8765",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example@127.0.0.1",
        "127.0.0.1/evil",
        "127.0.0.1:80:80",
        "192.0.2.7",
        "localhost.",
        "",
        " ",
    ],
)
def test_a_foreign_host_is_refused(folder, host):
    for path in ("/", "/events", "/results.csv"):
        status, body = raw(application(folder), path, [(b"host", host.encode())])
        assert status == 400
        assert b"Host" in body


def test_the_host_has_to_be_there_once(folder):
    app = application(folder)
    assert raw(app, "/results.csv", [])[0] == 400
    assert raw(app, "/results.csv", [(b"host", b"localhost"), (b"host", b"evil.example")])[0] == 400


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8765", "[::1]:8765"])
def test_the_loopback_is_known_by_its_names(folder, host):
    assert raw(application(folder), "/results.csv", [(b"host", host.encode())])[0] == 200


def test_on_all_addresses_numbers_and_own_names_will_do(folder):
    app = application(folder, hosts=["Box"], any_address=True)
    for host in (b"192.0.2.7:8765", b"box:1", b"[2001:db8::1]:1"):
        assert raw(app, "/results.csv", [(b"host", host)])[0] == 200
    for host in (b"evil.example", b"box.evil.example", b"[evil]", b"300.1.1.1"):
        assert raw(app, "/results.csv", [(b"host", host)])[0] == 400


@pytest.fixture
def guarded(folder):
    app = application(folder, hosts=["box"], any_address=True, token=TOKEN)
    return TestClient(app, base_url="http://box:8765", follow_redirects=False)


@pytest.mark.parametrize("path", ["/", "/events", "/results.csv", "/nothing"])
@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("", {}),
        ("?token=", {}),
        ("?token=wrong", {}),
        (f"?token={TOKEN}&token=wrong", {}),
        (f"?token={TOKEN[:-1]}", {}),
        (f"?Token={TOKEN}", {}),
        ("", {"authorization": "Bearer wrong"}),
        ("", {"authorization": f"Basic {TOKEN}"}),
        ("", {"authorization": "Bearer"}),
        ("", {"cookie": f"{COOKIE}=wrong"}),
        ("", {"cookie": f"{COOKIE}="}),
        ("", {"cookie": f"other={TOKEN}"}),
        ("?token=wrong", {"cookie": f"{COOKIE}={TOKEN}"}),
        ("?token=%ff%00", {}),
    ],
)
def test_without_the_token_nothing_is_answered(guarded, path, query, headers):
    answer = guarded.get(path + query, headers=headers)
    assert answer.status_code == 401
    assert "Quadratic" not in answer.text
    assert "set-cookie" not in answer.headers


def test_the_token_moves_from_the_address_into_a_cookie(guarded):
    answer = guarded.get(f"/?token={TOKEN}")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert guarded.get("/").status_code == 200  # with the cookie
    assert guarded.get("/results.csv").status_code == 200


def test_the_token_does_not_redirect_elsewhere(guarded):
    answer = guarded.get(f"//evil.example/?token={TOKEN}")
    assert answer.headers.get("location", "/") == "/"


def test_a_program_sends_the_token_in_a_header(guarded):
    headers = {"authorization": f"Bearer {TOKEN}"}
    assert guarded.get("/results.csv", headers=headers).status_code == 200
    foreign = {**headers, "host": "evil.example"}
    assert guarded.get("/results.csv", headers=foreign).status_code == 400


def test_web_sockets_are_closed(folder):
    import asyncio

    sent = []

    async def send(message):
        sent.append(message)

    async def app(*_):
        raise AssertionError("not to be asked")

    asyncio.run(Guard(app)({"type": "websocket", "headers": []}, None, send))  # type: ignore[arg-type]
    assert sent == [{"type": "websocket.close", "code": 1008}]
