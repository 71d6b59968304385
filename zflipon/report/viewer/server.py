"""A web server for one person: it serves the files that it was given, to this machine alone, and nothing else.

Files go by names that it gives them itself, and no path is ever made from what a browser asks for. Only requests for
127.0.0.1 or localhost are answered, so that no page of elsewhere reads along by a name that resolves to this machine.
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

_PIECE = 1 << 20
_POLICY = "default-src 'self' 'unsafe-inline' data: blob:"
"""Nothing is loaded from elsewhere, whatever a script would like to."""


@dataclass(frozen=True)
class Served:
    """What is behind an address.

    Attributes
    ----------
    source : Path or bytes
        A file, read where it is asked for, or the content.
    kind : str
        Media type.
    """

    source: Path | bytes
    kind: str = "application/octet-stream"

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size


class Server(ThreadingHTTPServer):
    """Serves contents at their addresses.

    Parameters
    ----------
    contents : mapping of str to Served
        Address, such as ``/data/0/zdna.bw`` → what is there.
    port : int
        0 takes any that is free.

    Raises
    ------
    OutputError
        If the port is taken or may not be used.
    """

    daemon_threads = True
    allow_reuse_address = (
        True  # else a port cannot be had for a minute after Ctrl-C; one in use stays refused
    )

    def __init__(self, contents: Mapping[str, Served], port: int = 0):
        self.contents = dict(contents)
        try:
            super().__init__((ADDRESS, port), Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise OutputError(
                f"port {port} of {ADDRESS} cannot be used ({reason}); name another with --port, or leave it out"
            ) from error
        self.names = {f"{host}:{self.port}" for host in (ADDRESS, "localhost")}

    def handle_error(self, request, client_address) -> None:
        """Keep still about a browser that breaks off: it does so whenever its user moves on."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self.server_address[1]

    @property
    def address(self) -> str:
        """What a browser opens."""
        return f"http://{ADDRESS}:{self.port}/"


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD, with parts of files where they are asked for (RFC 9110, range requests)."""

    protocol_version = "HTTP/1.1"
    server_version = "zflipon"
    sys_version = ""
    server: Server

    def do_GET(self) -> None:
        """Answer with the content."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Answer with the headers alone."""
        self._answer(with_body=False)

    def log_message(self, *_arguments) -> None:
        """Say nothing: a browser asks for a thousand parts."""

    def _answer(self, with_body: bool) -> None:
        if self.headers.get("Host") not in self.server.names:
            self.send_error(403, "only this machine is served")
            return
        found = self.server.contents.get(self.path.partition("?")[0])
        if found is None:
            self.send_error(404)
            return
        try:
            size = found.size
            part = asked_range(self.headers.get("Range"), size)
        except OSError:
            self.send_error(404, "the file is gone")
            return
        except ValueError:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start, end = part or (0, size)
        self.send_response(206 if part else 200)
        if part:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.send_header("Content-Type", found.kind)
        self.send_header("Content-Length", str(end - start))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if with_body:
            self._send(found, start, end)

    def _send(self, found: Served, start: int, end: int) -> None:
        if isinstance(found.source, bytes):
            self.wfile.write(found.source[start:end])
            return
        with open(found.source, "rb") as file:
            file.seek(start)
            while start < end and (piece := file.read(min(_PIECE, end - start))):
                self.wfile.write(piece)
                start += len(piece)
        if start < end:  # the file has shrunk, and the browser waits for what will not come
            self.close_connection = True


def asked_range(text: str | None, size: int) -> tuple[int, int] | None:
    """Return which bytes a Range header asks for, ``[start, end)``; None where all are to be sent.

    A header that is malformed, or names several ranges, is as none (RFC 9110, 14.2).

    Raises
    ------
    ValueError
        If the range lies beyond the end.
    """
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", (text or "").strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:  # the last bytes
        count = int(last)
        if count == 0 or size == 0:
            raise ValueError("nothing is asked for")
        return max(0, size - count), size
    start, end = int(first), min(int(last) + 1 if last else size, size)
    if last and int(last) < start:
        return None
    if start >= size:
        raise ValueError("the range begins beyond the end")
    return start, end
