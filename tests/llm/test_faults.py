"""What each HTTP status, error and header means; the fake server's faults are in test_openai.py."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from vistune.errors import ClientError
from vistune.llm import RequestError
from vistune.llm.faults import error_text, fault, parse_duration, retry_after


@pytest.mark.parametrize(
    ("status", "overload", "billed"),
    [(408, False, True), (429, True, False), (500, False, False), (503, True, False), (504, False, True),
     (529, True, False)],
)  # fmt: skip
def test_a_gateway_s_timeout_may_be_charged_and_an_overloaded_server_says_so(
    status: int, overload: bool, billed: bool
) -> None:
    error = fault(status, b"<html>late</html>", {}, "here")
    assert isinstance(error, RequestError)
    assert (error.retry, error.overload, error.billed) == (True, overload, billed)


def test_a_credit_balance_that_is_too_low_ends_the_run() -> None:
    body = {"error": {"type": "invalid_request_error", "message": "Your credit balance is too low."}}
    assert isinstance(fault(400, body, {}, "here"), ClientError)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error": {"code": "c", "type": "t", "message": "m"}}', ("c t", "m")),
        (b'{"detail": "m"}', ("", "m")),
        (b'{"error": "m"}', ("", "m")),
        (b"<html><b>m</b>\n</html>", ("", "m")),
        (b"[" * 100_000, ("", "[" * 500 + "…")),
    ],
)
def test_an_error_s_text_is_found_in_every_form(body: bytes, text: tuple[str, str]) -> None:
    assert error_text(body) == text


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "3"}, 3.0),
        ({"Retry-After": "3", "retry-after-ms": "250"}, 0.25),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0.5s"}, 360.5),
        ({"x-ratelimit-remaining-tokens": "9", "x-ratelimit-reset-tokens": "6m0s"}, None),
        ({}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "9" * 400}, None),
        ({"retry-after-ms": "inf"}, None),
        ({"retry-after-ms": "nan"}, None),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "9" * 400}, None),
    ],
)
def test_a_server_names_a_finite_wait_or_none(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_wait_may_be_a_date() -> None:
    later = time.time() + 60
    assert retry_after({"Retry-After": formatdate(later, usegmt=True)}) == pytest.approx(60, abs=5)
    anthropic = {
        "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-requests-reset": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(later)),
    }
    assert retry_after(anthropic) == pytest.approx(60, abs=5)
    assert retry_after({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0


@pytest.mark.parametrize(("text", "seconds"), [("1s", 1), ("6m0s", 360), ("12ms", 0.012), ("1h2m", 3720), ("3.5", 3.5)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)
