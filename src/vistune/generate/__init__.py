"""Instruction data from annotated images, written by a teacher that sees captions and boxes only."""

from __future__ import annotations

from vistune.generate.amounts import Quota, parse_amounts
from vistune.generate.captions import CaptionPairs
from vistune.generate.kinds import Prompts
from vistune.generate.limits import Limits
from vistune.generate.pipeline import DEFAULT_KINDS, generate
from vistune.generate.plan import First
from vistune.generate.price import Price
from vistune.generate.report import Report
from vistune.generate.shard import Shard
from vistune.generate.sort import Style

__all__ = [
    "DEFAULT_KINDS",
    "CaptionPairs",
    "First",
    "Limits",
    "Price",
    "Prompts",
    "Quota",
    "Report",
    "Shard",
    "Style",
    "generate",
    "parse_amounts",
]
