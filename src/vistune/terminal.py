"""The terminal: the console that tables, notes and progress are printed on, and images where it can draw them."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from vistune.printable import printable

if TYPE_CHECKING:
    from PIL import Image

_ROWS = 10
"""Height of an image in lines of text."""
_CHUNK = 4096
"""Characters of base64 in one of kitty's commands."""
_KITTY, _ITERM = ("ghostty", "WezTerm"), ("iTerm.app", "vscode")
"""Values of TERM_PROGRAM of terminals that know kitty's or iTerm2's protocol."""


class Terminal(Console):
    """A console of rich that shows every text as it is: no control characters, no markup, no names of emoji."""

    def render_str(self, text: str, **options: Any) -> Text:
        """As rich's, for the texts of `print` and the cells of tables."""
        return super().render_str(printable(text), **{**options, "markup": False, "emoji": False})


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
