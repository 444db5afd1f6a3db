"""What the server charges never exceeds the cap, and the pilot estimates the whole run."""

from __future__ import annotations

import random
import re
import signal
import time
from pathlib import Path

import pytest

from generating import annotations, command, report, run, start
from teacher_server import Teacher, teaching

PRICE = (2.5, 10.0)
"""USD per million tokens of input and output."""
FAULTS = dict.fromkeys(
    ("rate_limited", "http_503", "reset", "no_usage", "not_json", "wrong_text", "error_in_200"), 0.04
)


def usd(teacher: Teacher) -> float:
    """The price of every reply that the server wrote, whether it arrived or not."""
    stats = teacher.stats
    return float(stats["prompt_tokens"] * PRICE[0] + stats["completion_tokens"] * PRICE[1]) / 1e6


def tokens(teacher: Teacher) -> int:
    stats = teacher.stats
    return int(stats["prompt_tokens"] + stats["completion_tokens"])


@pytest.mark.parametrize("faults", [{}, FAULTS], ids=["no faults", "faults"])
def test_a_cap_in_usd_is_never_exceeded(faults: dict[str, float], tmp_path: Path) -> None:
    data, out, cap = annotations(tmp_path, 400), tmp_path / "out", 0.8
    options = ("--concurrency", "64", "--max-tokens", "400", "--price", f"{PRICE[0]}:{PRICE[1]}", "--max-usd", str(cap))
    with teaching(faults=faults) as teacher:
        printed = run(command(data, teacher.url, out, *options))
        assert 0 < usd(teacher) <= cap
        assert "the cap allows no further request" in printed
        assert report(out)["pending"] > 0
        sent = teacher.stats["requests"]
        run(command(data, teacher.url, out, *options))
        assert usd(teacher) <= cap
        assert teacher.stats["requests"] <= sent + 2  # there may have been room for one
    if not faults:
        assert usd(teacher) > 0.9 * cap


def test_a_cap_in_tokens_holds_through_kills(tmp_path: Path) -> None:
    data, out, cap = annotations(tmp_path, 400), tmp_path / "out", 250_000
    draw = random.Random(0)
    with teaching(latency=0.02, faults=FAULTS) as teacher:
        line = command(data, teacher.url, out, "--concurrency", "32", "--max-tokens", "400",
                       "--max-total-tokens", str(cap))  # fmt: skip
        for _ in range(6):
            process, before = start(line), teacher.stats["requests"]
            while teacher.stats["requests"] == before and process.poll() is None:
                time.sleep(0.005)
            time.sleep(draw.uniform(0, 0.1))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            assert tokens(teacher) <= cap
        run(line)
        assert 0 < tokens(teacher) <= cap


def test_requests_in_flight_before_there_was_a_cap_count(tmp_path: Path) -> None:
    data, out = annotations(tmp_path, 400), tmp_path / "out"
    with teaching(latency=0.2) as teacher:
        line = command(data, teacher.url, out, "--concurrency", "64", "--max-tokens", "400",
                       "--price", f"{PRICE[0]}:{PRICE[1]}")  # fmt: skip
        for _ in range(2):
            process, before = start(line), teacher.stats["requests"]
            while teacher.stats["requests"] < before + 60 and process.poll() is None:
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            process.communicate()
        time.sleep(0.3)
        cap = usd(teacher) + 0.3
        run([*line, "--max-usd", str(cap)])
        assert usd(teacher) <= cap


def test_with_a_cap_below_the_first_request_none_is_sent(tmp_path: Path) -> None:
    data = annotations(tmp_path, 5)
    with teaching() as teacher:
        printed = run(command(data, teacher.url, tmp_path / "out", "--max-total-tokens", "10"), code=2)
        assert teacher.stats["requests"] == 0
    assert re.search(r"the cap does not allow even one request, which may cost [\d,]+ tokens\n  fix: raise", printed)


def test_the_maximum_cost_of_a_request_is_enough_for_one(tmp_path: Path) -> None:
    data, price = annotations(tmp_path, 20), ("--price", f"{PRICE[0]}:{PRICE[1]}", "--concurrency", "1")
    with teaching() as teacher:
        printed = run(command(data, teacher.url, tmp_path / "out", *price, "--max-usd", "0.000001"), code=2)
        maximum = re.search(r"which may cost ([\d.]+) USD, [\d,]+ tokens", printed)
        assert maximum, printed
        cap = str(1.2 * float(maximum[1]))  # the probe has a cost, too
        run(command(data, teacher.url, tmp_path / "out", *price, "--max-usd", cap))
        assert report(tmp_path / "out")["pending"] < 20
        printed = run(command(data, teacher.url, tmp_path / "out", *price, "--max-usd", "0.000001"))
    assert re.search(
        r"no further request, which may cost [\d.]+ USD, [\d,]+ tokens; raise it", " ".join(printed.split())
    )


def test_the_pilot_estimates_the_whole_run(tmp_path: Path) -> None:
    data, out = annotations(tmp_path, 600), tmp_path / "out"
    options = ("--kinds", "conversation=all,detail=0.5", "--price", f"{PRICE[0]}:{PRICE[1]}", "--concurrency", "64")
    with teaching() as teacher:
        printed = run(command(data, teacher.url, out, *options, "--pilot", "60"), COLUMNS="200")
        sent = teacher.stats["requests"]
        assert sent <= 61
        assert "samples are pending: to get them, run the same command again without --pilot" in printed
        estimate = re.search(r"output tokens, ([\d.]+) USD", printed)
        assert estimate, printed
        run(command(data, teacher.url, out, *options))
        real = usd(teacher)
    assert float(estimate[1]) == pytest.approx(real, rel=0.1)


def test_a_dry_run_sends_no_request(tmp_path: Path) -> None:
    data = annotations(tmp_path, 20)
    with teaching() as teacher:
        run(command(data, teacher.url, tmp_path / "out", "--dry-run"))
        assert teacher.stats["requests"] == 0


def test_spending_before_there_was_a_price_counts(tmp_path: Path) -> None:
    data, out, cap = annotations(tmp_path, 400), tmp_path / "out", 1.0
    with teaching(faults={"no_usage": 0.1, "not_json": 0.05}) as teacher:
        run(command(data, teacher.url, out, "--limit", "30", "--max-tokens", "400"))
        unpriced = usd(teacher)
        options = ("--max-tokens", "400", "--price", f"{PRICE[0]}:{PRICE[1]}", "--max-usd", str(cap))
        printed = run(command(data, teacher.url, out, *options))
        assert 0.05 < unpriced < usd(teacher) <= cap
        again = run(command(data, teacher.url, out, *options))
    spent = [float(re.search(r"spent: ([\d.]+) USD", text)[1]) for text in (printed, again)]  # type: ignore[index]
    assert usd(teacher) <= spent[0] <= spent[1] <= cap
