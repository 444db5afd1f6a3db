from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vistune.data.features import FeatureCache, crop_keys

SHAPE = (3, 4)
KEYS = [crop_keys(bytes([number]), 1)[0] for number in range(10)]


def _open(folder: Path, limit: int = 10**6, dtype: torch.dtype = torch.float32) -> FeatureCache:
    return FeatureCache(folder, SHAPE, dtype, limit)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_kept_is_read_again_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    features = torch.randn(4, *SHAPE).to(dtype)
    first = _open(tmp_path, dtype=dtype)
    for number in (0, 1, 2, 2, 3):
        first.put(KEYS[number], features[number])
    for cache in (first, _open(tmp_path, dtype=dtype)):
        assert len(cache) == 4
        for key, wanted in zip(KEYS[:4], features, strict=True):
            kept = cache.get(key)
            assert kept is not None
            assert torch.equal(kept, wanted)
        assert cache.get(KEYS[5]) is None


def test_a_record_that_was_cut_off_is_not_read(tmp_path: Path) -> None:
    features = torch.randn(3, *SHAPE)
    first = _open(tmp_path)
    for number in range(2):
        first.put(KEYS[number], features[number])
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for length in (len(whole) - 1, len(whole) // 2 + 1, len(whole) // 2, 1, 0):
        path.write_bytes(whole[:length])
        cache = _open(tmp_path)
        assert len(cache) == length // (len(whole) // 2)
        assert cache.get(KEYS[1]) is None
    cache.put(KEYS[1], features[1])  # goes on in a file of its own
    again = _open(tmp_path).get(KEYS[1])
    assert again is not None
    assert torch.equal(again, features[1])


@pytest.mark.parametrize("at", [0, 47, 48, 59, 60, 63])
def test_a_damaged_record_is_named_and_made_anew(at: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features = torch.randn(2, *SHAPE)
    first = _open(tmp_path)
    for number in range(2):
        first.put(KEYS[number], features[number])
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    cache = _open(tmp_path)
    assert cache.get(KEYS[0]) is None
    in_key = 48 <= at < 60  # then it is the record of no image
    assert (f"damaged features in {tmp_path}: these images" in capsys.readouterr().err) is not in_key
    cache.put(KEYS[0], features[0])
    for number in range(2):
        kept = cache.get(KEYS[number])
        assert kept is not None
        assert torch.equal(kept, features[number])


def test_zeros_in_the_place_of_features_are_none(tmp_path: Path) -> None:
    first = _open(tmp_path)
    first.put(KEYS[0], torch.randn(SHAPE))
    (path,) = tmp_path.iterdir()
    path.write_bytes(bytes(48) + path.read_bytes()[48:])  # what a power cut may leave
    assert _open(tmp_path).get(KEYS[0]) is None


def test_no_more_is_kept_than_there_is_room_for(tmp_path: Path) -> None:
    record = 3 * 4 * 4 + 16
    cache = _open(tmp_path, limit=2 * record + 5)
    for key in KEYS:
        cache.put(key, torch.randn(SHAPE))
    assert len(cache) == 2
    assert len(_open(tmp_path, limit=record)) == 2


def test_a_process_that_is_killed_while_it_writes_leaves_whole_records(tmp_path: Path) -> None:
    program = (
        "import sys, torch\nfrom pathlib import Path\nfrom vistune.data.features import FeatureCache, crop_keys\n"
        "cache = FeatureCache(Path(sys.argv[1]), (300, 400), torch.float32, 10**9)\nprint(flush=True)\n"
        "for number in range(10**6):\n"
        "    cache.put(crop_keys(str(number).encode(), 1)[0], torch.full((300, 400), float(number)))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    while sum(path.stat().st_size for path in tmp_path.iterdir()) < 5_000_000:
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    cache = FeatureCache(tmp_path, (300, 400), torch.float32, 10**9)
    assert len(cache) >= 10
    for number in range(len(cache)):
        kept = cache.get(crop_keys(str(number).encode(), 1)[0])
        assert kept is not None
        assert (kept == number).all()
