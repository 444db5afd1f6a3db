"""The check of a machine's GPU, which without one runs what a CPU can."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

COMMAND = Path(__file__).parents[2] / "benchmarks" / "gpu_check.py"
OK = ("device", "bf16 forward and backward", "flex attention", "block masks", "head in chunks", "engine in bf16")
SKIPPED = ("TF32 forward and backward", "layers compiled", "8-bit AdamW", "engine in 4 bits", "speed of a 1B model")


def test_it_prints_a_line_for_each_check_and_skips_what_needs_cuda() -> None:
    command = [sys.executable, str(COMMAND), "--device", "cpu", "--only", *OK, *SKIPPED]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    rows = [line.strip("|").split("|") for line in done.stdout.splitlines() if line.startswith("| ")]
    results = {name.strip(): (result.strip(), detail.strip()) for name, result, detail in rows}
    assert done.returncode == 0, done.stdout + done.stderr
    assert {name: results[name][0] for name in OK} == dict.fromkeys(OK, "ok")
    assert {name: results[name] for name in SKIPPED} == dict.fromkeys(SKIPPED, ("skipped", "no CUDA"))
