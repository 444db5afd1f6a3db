"""The property that every reader has: whatever its files hold, it gives a result or an error that says what to do."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from spoiling import spoilt
from vistune.errors import VistuneError

pytest.importorskip("hypothesis", reason="the fuzzing tests need hypothesis")
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

_SLOWEST = timedelta(seconds=20)
"""Far more than a reader needs; what grows without bound needs more."""


def fuzz(files: Sequence[Path], read: Callable[[], object], examples: int = 60) -> None:
    """Check that `read`, which reads these sound files, has a result or an error with a fix if one of them is spoilt.

    At least one example in twenty must be an error, so that what is spoilt is what is read.
    """
    read()
    refused, sound = 0, {file: file.read_bytes() for file in files}

    @settings(max_examples=examples, deadline=_SLOWEST, derandomize=True, database=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.sampled_from(files), st.integers(0, 2**32))
    def check(file: Path, seed: int) -> None:
        nonlocal refused
        file.write_bytes(spoilt(sound[file], random.Random(seed)))
        try:
            read()
        except VistuneError as error:
            refused += bool(error.fix)
            if not error.fix:
                raise
        finally:
            file.write_bytes(sound[file])

    check()
    assert refused >= examples / 20
