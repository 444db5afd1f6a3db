"""Instruction data from annotated images, written by a teacher that sees captions and boxes only."""

from __future__ import annotations

from vistune.generate.captions import caption_pairs
from vistune.generate.pipeline import Style, generate
from vistune.generate.report import Report

__all__ = ["Report", "Style", "caption_pairs", "generate"]
