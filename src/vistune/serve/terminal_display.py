"""What a terminal gets to see: text without control characters, and images where its protocol is known."""

from __future__ import annotations

import io
import unicodedata
from base64 import b64encode
from collections.abc import Mapping

from PIL import Image

_ROWS = 10
"""Height of an image in lines of text."""
_CHUNK = 4096
"""Characters of base64 in one of kitty's commands."""
_KITTY, _ITERM = ("ghostty", "WezTerm"), ("iTerm.app", "vscode")
"""Values of TERM_PROGRAM of terminals that know kitty's or iTerm2's protocol."""
_BIDI = {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def printable(text: str) -> str:
    """Text of a model or server without what would control the terminal, or reorder what is shown, in it."""
    return "".join(
        character if character in "\n\t" or not _controls(character) else "\ufffd" * (character != "\r")
        for character in text
    )


def _controls(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _BIDI


def image_sequence(image: Image.Image, environment: Mapping[str, str]) -> str:
    """The characters that draw an image in the terminal of this environment; empty if its protocol is not known.

    Protocols: https://sw.kovidgoyal.net/kitty/graphics-protocol, https://iterm2.com/documentation-images.html
    """
    program = environment.get("TERM_PROGRAM", "")
    if "TMUX" in environment or environment.get("TERM", "").startswith("screen"):
        return ""  # they pass neither protocol on
    if "KITTY_WINDOW_ID" in environment or program in _KITTY:
        return _kitty(_png(image))
    return _iterm(_png(image)) if program in _ITERM or environment.get("LC_TERMINAL") == "iTerm2" else ""


def _png(image: Image.Image) -> str:
    small, file = image.convert("RGB"), io.BytesIO()
    small.thumbnail((1024, 40 * _ROWS))
    small.save(file, "PNG")
    return b64encode(file.getvalue()).decode()


def _kitty(content: str) -> str:
    chunks = [content[start : start + _CHUNK] for start in range(0, len(content), _CHUNK)]
    heads = [f"a=T,f=100,r={_ROWS},", *[""] * (len(chunks) - 1)]
    more = [1] * (len(chunks) - 1) + [0]
    return "".join(f"\x1b_G{head}m={m};{one}\x1b\\" for head, m, one in zip(heads, more, chunks, strict=True)) + "\n"


def _iterm(content: str) -> str:
    return f"\x1b]1337;File=inline=1;height={_ROWS};preserveAspectRatio=1:{content}\a\n"
