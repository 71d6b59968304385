"""A web server for the user of this machine: it serves a fixed set of files and nothing else.

Paths are never built from a request: an address is looked up in a table. Requests for any other host name than
127.0.0.1 or localhost are refused, so that a web page elsewhere cannot read the files through DNS rebinding.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from zflipon.errors import OutputError

ADDRESS = "127.0.0.1"

HTTP_PORT = 80
"""Port that browsers leave out of the Host header."""

TIMEOUT = 30.0
"""Seconds that a connection may be idle, in the middle of a request or between two."""

CHUNK = 1 << 20
"""Bytes sent at a time."""

CONTENT_POLICY = "; ".join((
    "default-src 'self' data: blob:",
    "script-src 'self' blob:",
    "style-src 'self' 'unsafe-inline'",
    "object-src 'none'",
    "base-uri 'none'",
    "form-action 'none'",
))  # fmt: skip
"""Browsers load nothing from other servers, and run no script that is part of the page's text."""


@dataclass(frozen=True)
class ServedFile:
    """The content of an address.

    Attributes
    ----------
    source : Path or bytes
        A file, opened on each request, or the content itself.
    media_type : str
    """

    source: Path | bytes
    media_type: str = "application/octet-stream"

    @property
    def size(self) -> int:
        """Size in bytes."""
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size


class Server(ThreadingHTTPServer):
    """Serves contents at their addresses on 127.0.0.1.

    Parameters
    ----------
    contents : mapping of str to ServedFile
        Address, such as ``/data/0.bw`` → content.
    port : int
        0 chooses a free port.
    timeout : float
        Seconds that a connection may be idle.

    Raises
    ------
    OutputError
        If the port is in use or not permitted.
    """

    daemon_threads = True
    allow_reuse_address = True  # otherwise the port is blocked for a minute after Ctrl-C

    def __init__(self, contents: Mapping[str, ServedFile], port: int = 0, timeout: float = TIMEOUT):
        self.contents = dict(contents)
        self.connection_timeout = timeout
        try:
            super().__init__((ADDRESS, port), Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise OutputError(
                f"port {port} of {ADDRESS} cannot be used ({reason}); choose another with --port, or omit --port"
            ) from error
        self.host_names = allowed_hosts(self.port)

    def handle_error(self, request, client_address) -> None:
        """Ignore browsers that close a connection or stop reading: they do so whenever the user moves on."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return self.server_address[1]

    @property
    def address(self) -> str:
        """The address to open in a browser."""
        return f"http://{ADDRESS}:{self.port}/"


def allowed_hosts(port: int) -> set[str]:
    """Return the values of the Host header that name this machine and port.

    Examples
    --------
    >>> sorted(allowed_hosts(8080))
    ['127.0.0.1:8080', 'localhost:8080']
    """
    names = (ADDRESS, "localhost")
    hosts = {f"{name}:{port}" for name in names}
    return hosts | set(names) if port == HTTP_PORT else hosts


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD, with single byte ranges (RFC 9110, section 14)."""

    protocol_version = "HTTP/1.1"
    server_version = "zflipon"
    sys_version = ""
    server: Server

    def setup(self) -> None:
        """Limit the time that the connection may be idle."""
        super().setup()
        self.connection.settimeout(self.server.connection_timeout)

    def do_GET(self) -> None:
        """Send headers and content."""
        self._respond(with_body=True)

    def do_HEAD(self) -> None:
        """Send the headers."""
        self._respond(with_body=False)

    def log_message(self, *_arguments) -> None:
        """Log nothing: a browser sends hundreds of requests."""

    def _respond(self, with_body: bool) -> None:
        if not self._accept_request():
            return
        content = self.server.contents.get(self.path.partition("?")[0])
        if content is None:
            self.send_error(404)
            return
        try:
            size = content.size
        except OSError:
            self.send_error(404, "the file was removed")
            return
        try:
            byte_range = parse_range(self.headers.get("Range"), size)
        except ValueError:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start, end = byte_range or (0, size)
        self.send_response(206 if byte_range else 200)
        if byte_range:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self._send_headers(content, end - start)
        if with_body:
            self._send_content(content, start, end)

    def _accept_request(self) -> bool:
        """Refuse requests for other hosts and requests with a body; return whether the request is accepted."""
        if self.headers.get("Host") not in self.server.host_names:
            self.send_error(403, "only this machine is served")
            return False
        # a body that is not read would be parsed as the next request of the connection
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            self.send_error(400, "the request must not have a body")
            self.close_connection = True
            return False
        return True

    def _send_headers(self, content: ServedFile, length: int) -> None:
        self.send_header("Content-Type", content.media_type)
        self.send_header("Content-Length", str(length))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", CONTENT_POLICY)
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()

    def _send_content(self, content: ServedFile, start: int, end: int) -> None:
        if isinstance(content.source, bytes):
            self.wfile.write(content.source[start:end])
            return
        with open(content.source, "rb") as file:
            file.seek(start)
            while start < end and (chunk := file.read(min(CHUNK, end - start))):
                self.wfile.write(chunk)
                start += len(chunk)
        if start < end:  # the file became shorter, and the browser waits for the rest
            self.close_connection = True


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Parse a Range header.

    Parameters
    ----------
    header : str or None
    size : int
        Size of the content in bytes.

    Returns
    -------
    (int, int) or None
        Bytes to send, `[start, end)`. None means all bytes: there is no header, it is malformed, or it has several
        ranges (RFC 9110, section 14.2).

    Raises
    ------
    ValueError
        If the range starts after the end, or is empty.

    Examples
    --------
    >>> parse_range("bytes=10-19", 100), parse_range("bytes=-5", 100)
    ((10, 20), (95, 100))
    """
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", (header or "").strip(), re.ASCII)
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:  # the last bytes of the content
        count = int(last)
        if count == 0 or size == 0:
            raise ValueError("the range is empty")
        return max(0, size - count), size
    start, end = int(first), min(int(last) + 1 if last else size, size)
    if last and int(last) < start:
        return None
    if start >= size:
        raise ValueError("the range starts after the end")
    return start, end
