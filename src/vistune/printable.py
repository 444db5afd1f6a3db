"""Text of others (data, file names, servers, templates) on a terminal: it is shown and controls nothing."""

from __future__ import annotations

import re
import sys

_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 and C1, among them ESC, without tab and line feed
    "\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"  # separators of lines, and what reorders the text
    "\ud800-\udfff]"  # halves of surrogate pairs, which no terminal can encode
)


def printable(text: str) -> str:
    """The text with U+FFFD for what would control the terminal or reorder what is shown; carriage returns are left out.

    Tabs and line feeds stay.
    """
    return _CONTROLS.sub("\ufffd", text.replace("\r", ""))


def print_line(text: object, *, error: bool = False) -> None:
    """Print text that may have parts of others on standard output, or on standard error."""
    print(printable(str(text)), file=sys.stderr if error else sys.stdout, flush=error)
