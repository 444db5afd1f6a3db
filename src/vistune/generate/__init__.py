"""Instruction data from annotated images, written by a teacher that sees captions and boxes only."""

from __future__ import annotations

from vistune.generate.amounts import Quota
from vistune.generate.captions import caption_pairs
from vistune.generate.kinds import Prompts
from vistune.generate.pipeline import generate
from vistune.generate.report import Report
from vistune.generate.sort import Style

__all__ = ["Prompts", "Quota", "Report", "Style", "caption_pairs", "generate"]
