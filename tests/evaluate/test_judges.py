"""Judges behind a server: faults, kills, replays."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from urllib.request import urlopen

import pytest
from rich.console import Console

from judge_server import FAULTS, evaluate_marked, judge_process, judging, write_bench, write_lines
from vistune.errors import ClientError, VistuneError
from vistune.evaluate.benchmarks import Setting
from vistune.evaluate.benchmarks.llava_bench import LlavaBench
from vistune.evaluate.judges import Judges, open_judge
from vistune.evaluate.results import load_verdicts
from vistune.evaluate.runner import check_unscored
from vistune.llm.budget import Limits

TOTAL = 60
"""Requests of a bench of 10 images with three questions each, in both orders."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bench(tmp_path_factory.mktemp("bench") / "coco", images=10)


def content(out: Path) -> tuple[bytes, bytes]:
    return (out / "verdicts.jsonl").read_bytes(), (out / "scores.json").read_bytes()


@pytest.mark.parametrize("fault", FAULTS)
def test_scores_are_those_over_the_parsed_replies(fault: str, bench: Path, tmp_path: Path) -> None:
    with judging(fault=fault) as server:
        scores = evaluate_marked(bench, tmp_path, server.url).benchmarks["llava_bench"]
        rows = load_verdicts(tmp_path)
        parsed = [row for row in rows if row["value"] is not None]
        unscored = [row for row in rows if row["value"] is None]
        own, references = (sum(row["parts"][side] for row in parsed) for side in ("answer", "reference"))
        assert scores.measures["relative_score"].value == pytest.approx(own / references)
        assert scores.unscored == len(unscored) == (0 if fault == "swapped" else scores.unscored)
        assert all(row["parts"]["answer"] == float(row["text"][8]) for row in parsed)
        assert all("http_500" in row["explanation"] or "no verdict" in row["explanation"] for row in unscored)
        # an unreadable reply is stored and was requested once more: only what got no reply is missing
        faulty = sum(count for name, count in server.stats["statuses"].items() if name == 500)
        retried = server.stats["requests"] - TOTAL
        assert (faulty > 0, retried > 0) == (fault == "http_500", fault in ("prose", "one_number", "nothing"))
        server.fault, before = "", server.stats["requests"]
        again = evaluate_marked(bench, tmp_path, server.url).benchmarks["llava_bench"]
        assert server.stats["requests"] - before == faulty
        assert again.unscored == (0 if fault == "http_500" else scores.unscored)


def test_too_many_unscored_answers_are_an_error(bench: Path, tmp_path: Path) -> None:
    with judging(fault="prose", share=0.5) as server:
        scores = evaluate_marked(bench, tmp_path, server.url)
    judges = Judges([open_judge("scripted:" + str(empty(tmp_path)), tmp_path)], tmp_path, Limits())
    benchmark = LlavaBench(Setting(bench, judges=judges))
    with pytest.raises(VistuneError, match="of 30 answers are unscored, more than 2%"):
        check_unscored({"llava_bench": benchmark}, scores)


def empty(folder: Path) -> Path:
    write_lines(folder / "replies.jsonl", [{"id": "0", "kind": "review", "text": "8 8"}])
    return folder / "replies.jsonl"


def test_another_attempt_is_made_for_stored_replies_that_cannot_be_read(bench: Path, tmp_path: Path) -> None:
    """With the official rule a verdict at the end cannot be read, with ours it can: the stored replies are the same."""
    with judging(fault="swapped", share=0.3) as server:
        ours = evaluate_marked(bench, tmp_path, server.url).benchmarks["llava_bench"]
        assert (ours.unscored, server.stats["requests"]) == (0, TOTAL)
        paper = evaluate_marked(bench, tmp_path, server.url, protocol="paper").benchmarks["llava_bench"]
        fresh = evaluate_marked(bench, tmp_path / "fresh", server.url, protocol="paper").benchmarks["llava_bench"]
        assert paper == fresh
        assert paper.unscored > 0


def test_a_replay_without_server_and_key_gives_the_same_bytes(
    bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with judging() as server:
        evaluate_marked(bench, tmp_path, server.url)
    written = content(tmp_path)
    evaluate_marked(bench, tmp_path, server.url)  # which is gone
    assert content(tmp_path) == written
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ClientError, match="OPENAI_API_KEY is not set"):
        open_judge("openai:teacher-1", tmp_path / "other", base_url="https://api.openai.com/v1")
    client = open_judge("openai:teacher-1", tmp_path, base_url="https://api.openai.com/v1")
    evaluate_marked(bench, tmp_path, client)
    assert content(tmp_path) == written
    with pytest.raises(ClientError, match="OPENAI_API_KEY is not set"):
        evaluate_marked(bench, tmp_path, client, max_tokens=7)  # another request


@pytest.mark.parametrize("point", [1, 25, 55])
def test_after_a_kill_nothing_stored_is_requested_again(point: int, bench: Path, tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from judge_server import evaluate_marked\n"
    code += "evaluate_marked(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])"
    tests = Path(__file__).parent.parent
    with judge_process(latency=0.05) as url:
        command = [sys.executable, "-c", code, str(bench), str(tmp_path), url]
        with subprocess.Popen(command, cwd=tests, stderr=subprocess.PIPE) as process:
            while requests(url) < point and process.poll() is None:
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        sent, stored = settled(url), stored_replies(tmp_path)
        evaluate_marked(bench, tmp_path, url)
        assert requests(url) - sent == TOTAL - stored
        evaluate_marked(bench, tmp_path / "whole", url)
        assert content(tmp_path) == content(tmp_path / "whole")
        assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 30


def requests(url: str) -> int:
    with urlopen(f"{url}/stats") as response:
        return int(json.load(response)["requests"])


def settled(url: str) -> int:
    """The number of requests once none is under way any more."""
    before = -1
    while (now := requests(url)) != before:
        before = now
        time.sleep(0.2)
    return now


def stored_replies(out: Path) -> int:
    with closing(sqlite3.connect(out / "replies.sqlite")) as store:
        return int(store.execute("SELECT count(*) FROM replies").fetchone()[0])


def test_a_cap_leaves_the_rest_unscored(bench: Path, tmp_path: Path) -> None:
    with judging() as server:
        judge = open_judge("openai:teacher-1", tmp_path, base_url=f"{server.url}/v1")
        limits = Limits(attempts=2, max_total_tokens=30_000)
        judges = Judges([judge], tmp_path, limits, console=Console(quiet=True))
        benchmark = LlavaBench(Setting(bench, judges=judges))
        questions = list(benchmark.questions())
        with judges.opened():
            benchmark.prepare([(question, "quality=5") for question in questions])
            verdicts = [benchmark.score(question, "quality=5") for question in questions]
    assert 0 < server.stats["requests"] < TOTAL
    assert any("the cap on spending" in one.explanation for one in verdicts if one.value is None)
