"""Damage to files: in their bytes, their text, their JSON, and inside of their packing.

Each function takes the content and a random generator and returns other content. `KINDS` lists them by kind of file.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

Mutation = Callable[[bytes, random.Random], bytes]

NUMBERS = (
    "-1", "0", "1", "1.5", "nan", "inf", "-inf", "1e400", "1e-400", "99999999999999999999",
    "9223372036854775808",
    "4294967296", "2147483648", "1_000", "１０", "+10", "0x10", "010", "", " ", "1e9", "true", "null", "--1",
)  # fmt: skip
WORDS = (
    "", ".", "..", "../../../etc/passwd", "/dev/zero", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07",
    "<script>alert(1)</script>",
    "é", "染色体", "\u202eabc", "\u2028", "\x00", "\t", "a b", "'", '"', "\\", "%s%n", "{}", "None", "x" * 300,
    "x" * 70_000,
    "chr1", "CON", "-o", "--force", "=cmd|'/C calc'!A0",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 0.5, 1e308, 1e-308, 2**31, 2**63, 2**70, 10**400, float("nan"),
    float("inf"), "", "x",
    "x" * 70_000, "../../etc/passwd", "\x1b[31m", "1", [], {}, [[]], {"": ""}, [None], [1, "a"],
    list(range(1000)),
)  # fmt: skip
INTEGERS = (
    0,
    1,
    0x7F,
    0xFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    1 << 40,
    (1 << 63) - 1,
    (1 << 64) - 1,
)


# ---- bytes ---------------------------------------------------------------------------------------------------


def _span(content: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(content) + 1)
    return start, min(len(content), start + int(2 ** rng.uniform(0, 12)))


def truncate(content, rng):
    return content[: rng.randrange(len(content) + 1)]


def flip_bits(content, rng):
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 8, 64))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def delete_bytes(content, rng):
    start, end = _span(content, rng)
    return content[:start] + content[end:]


def repeat_bytes(content, rng):
    start, end = _span(content, rng)
    return content[:end] + content[start:end] * rng.choice((1, 1, 2, 50)) + content[end:]


def insert_bytes(content, rng):
    at = rng.randrange(len(content) + 1)
    added = rng.choice(
        (b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\x00" * 4096, rng.randbytes(16), b"\n", b"\x1b[31m")
    )
    return content[:at] + added + content[at:]


def overwrite_bytes(content, rng):
    start, end = _span(content, rng)
    return content[:start] + rng.randbytes(end - start) + content[end:]


def overwrite_integer(content, rng):
    """Put an extreme integer at an aligned place, mostly near the beginning, where headers are."""
    width = rng.choice((1, 2, 4, 8))
    limit = min(len(content), rng.choice((64, 256, 1024, len(content) or 1)))
    at = rng.randrange(max(1, limit)) // width * width
    value = rng.choice(INTEGERS) & ((1 << 8 * width) - 1)
    return content[:at] + value.to_bytes(width, "little") + content[at + width :]


def replace_whole(content, rng):
    half = content[: len(content) // 2]
    return rng.choice((
        b"", b"\n", b"\x00", b"\x00" * len(content), b"{}", b"[]", b"another format\n", half + half,
        gzip.compress(content, mtime=0),
        b"PK\x03\x04" + content, content[::-1], b"\x1f\x8b" + content, b"<!DOCTYPE html><html></html>",
    ))  # fmt: skip


BYTES: Sequence[Mutation] = (
    truncate, flip_bits, flip_bits, delete_bytes, repeat_bytes, insert_bytes, overwrite_bytes,
    overwrite_integer,
    overwrite_integer, overwrite_integer, replace_whole,
)  # fmt: skip


# ---- text ----------------------------------------------------------------------------------------------------


def _replace_match(pattern: bytes, replacements: Sequence[str]) -> Mutation:
    def mutate(content: bytes, rng: random.Random) -> bytes:
        found = [match.span() for match in re.finditer(pattern, content[:200_000])]
        if not found:
            return truncate(content, rng)
        start, end = rng.choice(found)
        return content[:start] + rng.choice(replacements).encode() + content[end:]

    return mutate


def change_lines(content, rng):
    lines = content.splitlines(keepends=True) or [b""]
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    action = rng.randrange(7)
    if action == 0:
        del lines[at]
    elif action == 1:
        lines.insert(other, lines[at])
    elif action == 2:
        lines[at], lines[other] = lines[other], lines[at]
    elif action == 3:
        lines[at] = lines[at].rstrip(b"\r\n")
    elif action == 4:
        lines[at] = b"\n" + lines[at]
    elif action == 5:
        lines[at] = lines[at][: rng.randrange(len(lines[at]) + 1)] + b"\n"
    else:
        lines[at] = lines[at] * 500
    return b"".join(lines)


def change_separators(content, rng):
    old, new = rng.choice(((b"\t", b" "), (b"\t", b","), (b"\t", b"\t\t"), (b"\n", b"\r\n"), (b"\n", b"\r"),
    (b" ", b"\t"),
                           (b",", b";"), (b"\n", b"\n\n"), (b"\t", b""), (b"\n", b" \n")))  # fmt: skip
    return content.replace(old, new)


def change_encoding(content, rng):
    text = content.decode(errors="replace")
    return rng.choice((
        lambda: b"\xef\xbb\xbf" + content, lambda: text.encode("utf-16"), lambda: text.encode("utf-32"),
        lambda: content + b"caf\xe9\n", lambda: text.upper().encode(), lambda: text.lower().encode(),
    ))()  # fmt: skip


change_number = _replace_match(rb"(?<![\w.])[0-9]+(\.[0-9]+)?(e-?[0-9]+)?(?![\w.])", NUMBERS)
change_word = _replace_match(rb"[A-Za-z_][\w.]*", WORDS)

TEXT: Sequence[Mutation] = (
    change_number, change_number, change_number, change_word, change_word, change_lines, change_lines,
    change_separators,
    change_encoding, truncate, insert_bytes, delete_bytes, flip_bits, replace_whole,
)  # fmt: skip


# ---- JSON ----------------------------------------------------------------------------------------------------


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return container and key of everything inside of a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, child in items:
        found += [(value, key), *_places(child)]
    return found


def mutate_value(value: Any, rng: random.Random) -> Any:
    """Change one place of a JSON value, in place."""
    places = _places(value)
    if not places:
        return rng.choice(VALUES)
    shallow = [place for place in places if place[0] is value]
    container, key = rng.choice(shallow if rng.random() < 0.4 and shallow else places)
    action = rng.randrange(8)
    if action == 0:
        del container[key]
    elif action == 1 and isinstance(container, dict):
        container[rng.choice(("x", str(key).upper(), "", "\x1b[31m"))] = container.pop(key)
    elif action == 2:
        container[key] = [container[key]]
    elif action == 3 and isinstance(container[key], (int, float)):
        container[key] = container[key] * rng.choice((-1, 0, 2, 1000, 10**9))
    elif action == 4 and isinstance(container[key], str):
        container[key] = rng.choice(WORDS)
    else:
        container[key] = rng.choice(VALUES)
    return value


def change_json(content, rng):
    if rng.random() < 0.03:
        return rng.choice((b"[" * 100_000, b'{"a":' * 50_000, b"[]", b"null", b"1", b'"x"', b"1e999"))
    try:
        value = json.loads(content)
    except ValueError:
        return truncate(content, rng)
    return json.dumps(mutate_value(value, rng)).encode()


JSON: Sequence[Mutation] = (change_json,) * 10 + (
    truncate,
    flip_bits,
    insert_bytes,
    replace_whole,
    change_encoding,
)


# ---- packed files --------------------------------------------------------------------------------------------


def change_safetensors_header(content, rng):
    (size,) = struct.unpack("<Q", content[:8])
    header = change_json(content[8 : 8 + size], rng)
    stated = rng.choice((len(header), len(header), len(header), size, 0, 1 << 40, (1 << 64) - 1))
    return struct.pack("<Q", stated) + header + content[8 + size :]


def inside_gzip(mutations: Sequence[Mutation], pack: Callable[[bytes], bytes] | None = None) -> Mutation:
    def mutate(content: bytes, rng: random.Random) -> bytes:
        changed = rng.choice(mutations)(gzip.decompress(content), rng)
        return pack(changed) if pack else gzip.compress(changed, 1, mtime=0)

    return mutate


def bgzip(content: bytes) -> bytes:
    """Pack bytes as bgzip does: gzip members that state their size, and an empty one at the end."""
    members = [content[first : first + 0xFF00] for first in range(0, len(content), 0xFF00)]
    packed = b""
    for member in (*members, b""):
        compressor = zlib.compressobj(1, zlib.DEFLATED, -15)
        body = compressor.compress(member) + compressor.flush()
        head = b"\x1f\x8b\x08\x04" + bytes(4) + b"\x00\xff\x06\x00BC\x02\x00"
        tail = struct.pack("<II", zlib.crc32(member), len(member))
        packed += head + struct.pack("<H", len(head) + len(body) + len(tail) + 1) + body + tail
    return packed


def change_gzip(content, rng):
    return rng.choice((
        content + b"garbage", content + content, content[:-8] + b"\x00" * 8, content[:-4] + b"\xff" * 4,
        content[:10],
        content + b"\x00" * 512, b"", content[1:],
    ))  # fmt: skip


def change_zip(content, rng):
    """Change one member of a zip archive, such as a PyTorch file."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(changed, "w") as new:
        chosen = rng.choice(old.namelist() or [""])
        for name in old.namelist():
            member = old.read(name)
            if name == chosen:
                if rng.random() < 0.15:
                    continue
                member = rng.choice(BYTES)(member, rng)
            new.writestr(zipfile.ZipInfo(name), member)
    return changed.getvalue()


KINDS: dict[str, Sequence[Mutation]] = {
    "text": TEXT,
    "binary": BYTES,
    "json": JSON,
    "safetensors": (*BYTES, *(change_safetensors_header,) * 10),
    "gzip": (*BYTES, change_gzip, change_gzip, *(inside_gzip(TEXT),) * 6),
    "bgzip text": (*BYTES, change_gzip, *(inside_gzip(TEXT, bgzip),) * 12),
    "bgzip binary": (*BYTES, change_gzip, *(inside_gzip(BYTES, bgzip),) * 24),
    "zip": (*BYTES, *(change_zip,) * 12),
}
"""Kind of file → its mutations; one that is there several times is chosen more often."""


_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    RecursionError,
    struct.error,
    zipfile.BadZipFile,
    OverflowError,
    zlib.error,
)


def mutate(content: bytes, kind: str, seed: int) -> bytes:
    """Return content with one to three mutations, which follow from the seed."""
    rng = random.Random(seed)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        with suppress(*_UNREADABLE):  # an earlier mutation may have left nothing that this one can read
            content = rng.choice(KINDS[kind])(content, rng)
    return content
