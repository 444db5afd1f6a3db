"""How the local teacher is to behave."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

FAULTS = (
    "rate_limited", "retry_after", "retry_after_date", "http_500", "http_502", "http_503", "reset", "hang", "html",
    "no_choices", "no_usage", "truncated", "not_json", "wrong_text", "length", "filtered", "error_in_200",
)  # fmt: skip
"""What another attempt gets over, or what comes as a reply that is of no use."""
REFUSALS = (
    "http_400", "http_401", "http_403", "http_404", "insufficient_quota", "context_length", "content_filter"
)  # fmt: skip
"""What another attempt does not get over."""


@dataclass(frozen=True)
class Settings:
    """`faults` gives each fault's share of the requests, drawn by a hash of the body and how often it was sent.

    `rate`: the requests a second beyond which it answers 429, the wait given by `wait`. `key`: what it insists on,
    in whichever header the wire format has it; a refusal repeats the key that it got. `rejects`: parameters that
    it answers with 400. `polls`: how often a batch is asked for before it is finished.
    """

    model: str = "teacher-1"
    latency: float = 0.0
    faults: Mapping[str, float] = field(default_factory=dict)
    rate: float | None = None
    burst: int = 1
    wait: Literal["none", "seconds", "ms", "date"] = "seconds"
    quota: bool = False
    schema: Literal["honour", "ignore", "refuse"] = "honour"
    obedient: bool = False
    key: str = ""
    rejects: Sequence[str] = ()
    polls: int = 2
    hang: float = 3600.0

    def __post_init__(self) -> None:
        if unknown := set(self.faults) - {*FAULTS, *REFUSALS}:
            raise ValueError(f"unknown faults: {', '.join(sorted(unknown))}; known: {', '.join(FAULTS + REFUSALS)}")


def parse(arguments: Sequence[str] | None = None) -> tuple[Settings, int]:
    """The settings and the port that a command line asks for."""
    parser = argparse.ArgumentParser(description="A local teacher for tests and benchmarks; its URL is the first line.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--model", default="teacher-1")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds from request to reply")
    parser.add_argument("--fault", action="append", default=[], metavar="NAME=SHARE", help=", ".join(FAULTS + REFUSALS))
    parser.add_argument("--rate", type=float, help="requests a second; beyond them 429")
    parser.add_argument("--burst", type=int, default=1, help="requests above the rate that it takes at once")
    parser.add_argument("--wait", choices=("none", "seconds", "ms", "date"), default="seconds", help="in a 429")
    parser.add_argument("--quota", action="store_true", help="send x-ratelimit headers")
    parser.add_argument("--schema", choices=("honour", "ignore", "refuse"), default="honour")
    parser.add_argument("--obedient", action="store_true", help="does what captions tell it to")
    parser.add_argument("--key", default="", help="the API key that it insists on")
    parser.add_argument("--rejects", action="append", default=[], metavar="PARAMETER")
    parser.add_argument("--polls", type=int, default=2, help="until a batch is finished")
    args = vars(parser.parse_args(arguments))
    port, faults = args.pop("port"), (text.partition("=") for text in args.pop("fault"))
    return Settings(faults={name: float(share or 1) for name, _, share in faults}, **args), port
