"""The viewer's server: byte ranges, refused addresses, hosts and bodies, idle connections, closed connections."""

import http.client
import socket
import struct
import threading

import pytest
from serving import serving

from zflipon.errors import OutputError
from zflipon.report.viewer.server import ADDRESS, ServedFile, Server, allowed_hosts, parse_range

CONTENT = bytes(range(256)) * 10


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Return a server of one file and one text, and the file's folder, which holds another file."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "named.bin").write_bytes(CONTENT)
    (folder / "secret.txt").write_text("not served")
    contents = {"/": ServedFile(b"page", "text/html"), "/data/0.bin": ServedFile(folder / "named.bin")}
    with serving(contents) as server:
        yield server, folder


def fetch(server, path, method="GET", **headers):
    connection = http.client.HTTPConnection(ADDRESS, server.port, timeout=30)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def send(server, text):
    """Send bytes over a new connection; return everything that the server answers until it closes it."""
    with socket.create_connection((ADDRESS, server.port), timeout=30) as client:
        client.sendall(text)
        parts = []
        while part := client.recv(65536):
            parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(
    ("header", "status", "part"),
    [
        (None, 200, slice(None)),
        ("bytes=0-0", 206, slice(0, 1)),
        ("bytes=10-19", 206, slice(10, 20)),
        ("bytes=2550-9999", 206, slice(2550, 2560)),
        ("bytes=2000-", 206, slice(2000, 2560)),
        ("bytes=-5", 206, slice(2555, 2560)),
        ("bytes=-9999", 206, slice(0, 2560)),
        ("bytes=2560-", 416, slice(0, 0)),
        ("bytes=-0", 416, slice(0, 0)),
        ("bytes=9-3", 200, slice(None)),
        ("bytes=0-1,5-6", 200, slice(None)),
        ("lines=0-1", 200, slice(None)),
        (f"bytes={'9' * 5000}-", 200, slice(None)),
        ("bytes=٣-٤".encode().decode("latin-1"), 200, slice(None)),
    ],
)
def test_byte_ranges(small, header, status, part):
    response, body = fetch(small[0], "/data/0.bin", **({"Range": header} if header else {}))
    assert response.status == status
    assert body == CONTENT[part]
    assert int(response.headers["Content-Length"]) == len(body)
    if status == 206:
        assert response.headers["Content-Range"] == f"bytes {part.start}-{part.stop - 1}/2560"
    if status == 416:
        assert response.headers["Content-Range"] == "bytes */2560"


def test_head_has_no_body(small):
    response, body = fetch(small[0], "/data/0.bin", "HEAD")
    assert (response.status, response.headers["Content-Length"], body) == (200, "2560", b"")
    assert response.headers["Accept-Ranges"] == "bytes"


def test_a_connection_serves_several_requests(small):
    connection = http.client.HTTPConnection(ADDRESS, small[0].port, timeout=30)
    for _ in range(3):
        connection.request("GET", "/data/0.bin", headers={"Range": "bytes=1-2"})
        assert connection.getresponse().read() == CONTENT[1:3]
    connection.close()


@pytest.mark.parametrize(
    "path",
    [
        "/data/../secret.txt",
        "/data/secret.txt",
        "/secret.txt",
        "/%2e%2e/secret.txt",
        "/data/%2e%2e%2fsecret.txt",
        "/data/0.bin/../secret.txt",
        "//etc/passwd",
        "/../../../../etc/passwd",
        "/data",
        "/data/",
        "/data/1.bin",
    ],
)
def test_nothing_else_on_disk_is_served(small, path):
    response, body = fetch(small[0], path)
    assert response.status == 404
    assert b"not served" not in body


def test_the_absolute_path_of_a_served_file_is_no_address(small):
    server, folder = small
    assert fetch(server, str(folder / "named.bin"))[0].status == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", f"{ADDRESS}", "", f"{ADDRESS}:1"])
def test_other_host_names_are_refused(small, host):
    response, body = fetch(small[0], "/", Host=host)
    assert response.status == 403
    assert body != b"page"


def test_localhost_is_accepted(small):
    assert fetch(small[0], "/", Host=f"localhost:{small[0].port}")[1] == b"page"


def test_port_80_may_be_absent_from_the_host_name():
    assert allowed_hosts(80) == {"127.0.0.1", "localhost", "127.0.0.1:80", "localhost:80"}
    assert allowed_hosts(8080) == {"127.0.0.1:8080", "localhost:8080"}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_other_methods_are_refused(small, method):
    assert fetch(small[0], "/", method)[0].status == 501


@pytest.mark.parametrize("header", ["Content-Length: 43", "Transfer-Encoding: chunked"])
def test_a_body_is_not_read_as_the_next_request(small, header):
    server = small[0]
    host = f"Host: {ADDRESS}:{server.port}"
    smuggled = f"GET /data/0.bin HTTP/1.1\r\n{host}\r\n\r\n"
    answer = send(server, f"GET / HTTP/1.1\r\n{host}\r\n{header}\r\n\r\n{smuggled}".encode())
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("text", [b"", b"GE", b"GET / HTTP/1.1\r\nHost: "])
def test_an_idle_connection_is_closed(text):
    with serving({"/": ServedFile(b"page")}, timeout=0.05) as server:
        assert b"200" not in send(server, text)
        assert fetch(server, "/")[1] == b"page"


def test_the_policy_forbids_other_servers_and_inline_scripts(small):
    policy = fetch(small[0], "/")[0].headers["Content-Security-Policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"].startswith("'self'")
    assert "unsafe" not in rules["default-src"] + rules["script-src"]
    assert "http" not in policy


def test_it_listens_on_this_machine_only(small):
    assert small[0].server_address[0] == "127.0.0.1"


def test_a_port_in_use_is_reported(small):
    with pytest.raises(OutputError, match=f"port {small[0].port} of 127.0.0.1 cannot be used .*--port"):
        Server({}, small[0].port)


def test_a_port_can_be_used_again_at_once():
    with serving({"/": ServedFile(b"page")}) as server:
        connection = http.client.HTTPConnection(ADDRESS, server.port, timeout=30)
        connection.request("GET", "/", headers={"Connection": "close"})
        # the server closes first, so its side of the connection waits
        assert connection.getresponse().read() == b"page"
    with serving({"/": ServedFile(b"again")}, server.port) as second:
        assert fetch(second, "/")[1] == b"again"


def test_a_connection_reset_by_the_browser_prints_nothing(capfd):
    served = ServedFile(bytes(1 << 25))
    with serving({"/": served}) as server:
        handled = []
        shutdown_request = server.shutdown_request

        def record(request):
            shutdown_request(request)
            handled.append(request)
            done.set()

        server.shutdown_request = record
        for text in ("GE", f"GET / HTTP/1.1\r\nHost: {ADDRESS}:{server.port}\r\n\r\n"):
            done = threading.Event()
            client = socket.create_connection((ADDRESS, server.port))
            client.sendall(text.encode())
            if len(text) > 2:
                client.recv(100)  # the answer has begun
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()  # sends a reset
            assert done.wait(30)
        assert fetch(server, "/", "HEAD")[0].status == 200
    assert len(handled) >= 2
    assert capfd.readouterr().err == ""


class ShrunkFile(ServedFile):
    """A file that had 100 bytes when its size was read."""

    size = 100


def test_a_file_that_shrinks_ends_the_connection(tmp_path):
    (tmp_path / "x").write_bytes(b"1")
    with serving({"/x": ShrunkFile(tmp_path / "x")}) as server, pytest.raises(http.client.IncompleteRead):
        fetch(server, "/x")


def test_a_removed_file_is_not_found(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"1")
    with serving({"/x": ServedFile(path)}) as server:
        assert fetch(server, "/x")[1] == b"1"
        path.unlink()
        assert fetch(server, "/x")[0].status == 404


def test_ranges_of_an_empty_file():
    assert parse_range(None, 0) is None
    with pytest.raises(ValueError, match="after the end"):
        parse_range("bytes=0-", 0)
