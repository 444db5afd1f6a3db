"""How fast `vistune generate` asks, what it may spend, and on how many machines: options and their reading."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune.cli.options import count, positive, positive_number

if TYPE_CHECKING:
    from vistune.generate.limits import Limits


def add_limits(command: Any) -> None:
    """Three groups of options: asking, spending, several machines."""
    add = command.add_argument_group("asking").add_argument
    add(
        "--concurrency", type=positive, metavar="N", help="the most requests at a time (default: 16; of batches, 1,000)"
    )
    add(
        "--max-tokens",
        type=positive,
        metavar="N",
        help="the longest reply, in tokens (default: 2048 for remote teachers)",
    )
    often = "ask so often in all for a reply that can be read (default: 2 for remote teachers, 1 for others)"
    add("--attempts", type=positive, metavar="N", help=often)
    add("--retries", type=count, default=8, metavar="N", help="send a request that got no reply again (default: 8)")
    add("--patience", type=positive_number, default=10.0, metavar="MINUTES", help="of nothing but faults (default: 10)")
    add("--retry-failed", action="store_true", help="also ask again what the teacher refused for good in earlier runs")
    add = command.add_argument_group("spending").add_argument
    add("--dry-run", action="store_true", help="only estimate requests, tokens and cost; nobody is asked")
    add("--pilot", type=positive, metavar="N", help="ask for N samples only, spread over all; estimate the rest")
    add("--price", metavar="IN:OUT[:CACHED]", help="USD per million tokens of input, output and cached input")
    add("--max-usd", type=positive_number, metavar="USD", help="never spend more, all runs into this folder together")
    add("--max-total-tokens", type=positive, metavar="N", help="the same in tokens, input and output together")
    add = command.add_argument_group("several machines").add_argument
    add("--shard", metavar="I/N", help="only the I-th of N parts of the images, which part depends on an image's id")
    add("--merge", type=Path, nargs="+", action="extend", default=[], metavar="DIR",
        help="take over the replies of these runs first (may be repeated)")  # fmt: skip


def read_limits(args: argparse.Namespace) -> Limits:
    """The limits that the options say."""
    from vistune.generate.limits import Limits
    from vistune.generate.price import Price

    return Limits(
        attempts=args.attempts, retries=args.retries, patience=60 * args.patience, max_tokens=args.max_tokens,
        price=Price.parse(args.price) if args.price else None, max_usd=args.max_usd,
        max_total_tokens=args.max_total_tokens, retry_failed=args.retry_failed,
    )  # fmt: skip
