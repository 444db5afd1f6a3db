"""Bad and odd inputs for `robust_sweep.py`: contents of files, things that are no files, values of options."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import struct
import tarfile
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

Write = Callable[[Path], object]
"""Makes a bad input at a path."""
CODE_RAN = "HACKED"
"""The file that the inputs with code make, if it runs."""
_ESCAPES = "\x1b]0;title\x07\x1b[31mred\x1b[0m\r\x9b2J"


def contents() -> dict[str, Write]:
    """Files that no reader can use, or only partly."""
    rng = random.Random(0)
    row = {"id": "0", "image": "a.jpg", "conversations": [{"from": "human", "value": "<image>\nWhat?"}] * 3}
    entities = "".join(f'<!ENTITY b{n} "{f"&b{n - 1};" * 10}">' for n in range(1, 9))
    aliases = "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefghijkl"))
    numbers = f'[{{"id": {"9" * 5000}, "image": 1e999, "bbox": [1e400, NaN, -Infinity, 0]}}]'
    texts: dict[str, str | bytes] = {
        "empty": "",
        "a blank line": "\n",
        "binary": rng.randbytes(3000),
        "zeros": bytes(3000),
        "no UTF-8": b'[{"id": "\xff\xfe", "image": "\xe9.jpg"}]',
        "UTF-16": "[{}]".encode("utf-16"),
        "100,000 brackets": "[" * 100_000,
        "100,000 objects": '{"a":' * 100_000,
        "cut off": json.dumps([row] * 9)[:-40],
        "a list of numbers": "[1, 2, 3]",
        "null": "null",
        "a list of nulls": "[null, null]",
        "a number": "7",
        "a text": '"text"',
        "an empty list": "[]",
        "an empty object": "{}",
        "another's keys": '[{"foo": 1, "bar": {"baz": [2]}}]',
        "numbers too large": numbers,
        "wrong types": '[{"id": {}, "image": 5, "conversations": "text", "captions": 3, "instances": {"a": 1}}]',
        "keys twice": '{"images": [], "images": {}, "annotations": 1, "categories": null}',
        "aliases": f"a: &a [x, x, x, x, x, x, x, x, x]\n{aliases}",
        "a date that does not exist": "name: 2026-02-30\nnames: [2026-02-30]\nstages: 2026-13-45\n",
        "tags of Python": f"!!python/object/apply:os.system ['touch {CODE_RAN}']\n",
        "escape codes": json.dumps([{**row, "id": _ESCAPES, "image": _ESCAPES, _ESCAPES: 1}]),
        "raw escape codes": f'[{{"id": "{_ESCAPES}", "image": "{_ESCAPES}"}}]',
        "a page of HTML": "<!doctype html><html><body>Not found</body></html>",
        "a pointer of git-lfs": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n",
        "a line of 5 MB": f'[{{"id": "{"x" * 5_000_000}"}}]',
        "quotes that do not end": 'a,b\n"x,y\n' * 400,
        "a table of commas": "image,question,answer\n" + "," * 20_000,
        "XML": "<annotation><object><bndbox/></object></annotation>",
        "XML of entities": f'<!DOCTYPE a [<!ENTITY b0 "cccccccccc">{entities}]><annotation>&b8;</annotation>',
        "a gzip bomb": gzip.compress(bytes(100_000_000), 1),
        "a tar that is cut": _tar()[:700],
        "a tar of links": _tar(links=True),
        "parquet that is cut": b"PAR1" + rng.randbytes(500),
        "SQLite of garbage": b"SQLite format 3\0" + rng.randbytes(4080),
        "safetensors of 2^60": struct.pack("<Q", 1 << 60) + b"{}",
        "a pickle": f"cos\nsystem\n(S'touch {CODE_RAN}'\ntR.",
        "a PNG of 10^10 pixels": _png(100_000, 100_000),
        "a PNG that is cut": _png(40, 30)[:60],
        "PostScript": "%!PS\n(x) show\n",
        "SVG": '<svg xmlns="http://www.w3.org/2000/svg"/>',
    }
    return {name: _file(content) for name, content in texts.items()}


def things() -> dict[str, Write]:
    """What is no regular file, or not the user's."""
    return {
        "nothing": lambda _: None,
        "a folder": Path.mkdir,
        "a FIFO": os.mkfifo,
        "a dangling link": lambda path: path.symlink_to("nowhere"),
        "a link in a circle": lambda path: path.symlink_to(path.name),
        "/dev/zero": lambda path: path.symlink_to("/dev/zero"),
        "/dev/full": lambda path: path.symlink_to("/dev/full"),
        "unreadable": _unreadable,
    }


VALUES = (
    "", "-1", "0", "1e999", "9" * 5000, "nan", "x\x1b[31m", "/proc/self/mem", "/dev/null/x", "a=b=c", "1:2:3:4", "{",
    "é" * 300,
)  # fmt: skip
"""Odd values of options."""


def _file(content: str | bytes) -> Write:
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode())


def _unreadable(path: Path) -> None:
    path.write_text("[]")
    path.chmod(0)


def _png(width: int, height: int) -> bytes:
    """A PNG whose header has this size; its pixels are black, or missing where there are too many."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = zlib.compress(bytes((width * 3 + 1) * min(height, 100)))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _tar(*, links: bool = False) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name in ("0.jpg", "0.txt"):
            member = tarfile.TarInfo(name)
            if links:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            else:
                member.size = 400
            tar.addfile(member, io.BytesIO(bytes(400)))
    return content.getvalue()
