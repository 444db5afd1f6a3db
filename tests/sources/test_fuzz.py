"""A thousand annotation files, spoilt at random: records or errors, whatever is in them."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from annotation_tools import FIXTURES, TOOLS
from spoiling import spoil
from vistune.errors import VistuneError
from vistune.sources import open_source

pytest.importorskip("hypothesis", reason="the fuzzing tests need hypothesis")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def test_a_thousand_spoilt_annotation_files(examples: dict[str, Path], tmp_path: Path) -> None:
    outcomes = []

    @settings(max_examples=1000, deadline=None, derandomize=True, database=None,
              suppress_health_check=[HealthCheck.too_slow])  # fmt: skip
    @given(st.sampled_from((*TOOLS, *FIXTURES)), st.randoms(use_true_random=False), st.booleans())
    def check(name: str, random_: random.Random, named: bool) -> None:
        folder = tmp_path / "spoilt"
        shutil.rmtree(folder, ignore_errors=True)
        sound = examples[name]
        shutil.copytree(sound if sound.is_dir() else sound.parent, folder)
        path = folder if sound.is_dir() else folder / sound.name
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        texts = [file for file in files if file.suffix not in (".png", ".jpg")]
        spoil(random_.choice(texts if random_.random() < 0.9 else files), random_)
        try:
            outcomes.append(len(list(open_source(name if named else None, path, on_error=lambda _: None))))
        except VistuneError:
            outcomes.append(-1)

    check()
    assert outcomes.count(-1) > 100
    assert sum(count > 0 for count in outcomes) > 100
