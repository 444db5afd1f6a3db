"""What a server's error means: skip this request, send it again, or stop the run."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from vistune.errors import ClientError, VistuneError
from vistune.llm.client import RequestError

Headers = Mapping[str, str]

_OVERLOAD = frozenset({429, 503, 529})
_GATEWAY_TIMEOUT = frozenset({408, 504, 524})  # the reply may have been written, and charged, all the same
_RETRY = frozenset({408, 409, 425, 429})
_NO_MONEY = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "credit balance is too low")
_TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size|maximum context length|context (?:size|window|length)"
    r"|prompt is too long|too many (?:input )?tokens",
    re.IGNORECASE,
)
_FILTERED = re.compile(
    r"content_filter|content_policy|ResponsibleAIPolicyViolation|content management policy|flagged", re.IGNORECASE
)
_LIMITED = ("requests", "tokens", "input-tokens", "output-tokens")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_FIXES = {
    400: "the server refuses such requests: see its message",
    401: "check the key and the variable that holds it (--key-env)",
    402: "the account has no credit left",
    403: "check the permissions of the key",
    404: "check the model's name and --base-url (it usually ends in /v1)",
}


class RefusedError(ClientError):
    """The server refuses the form of the request (400, 422)."""

    details = ""
    """The error's codes, parameter and message."""


def fault(status: int, body: bytes | Mapping[str, Any], headers: Headers, where: str) -> RequestError | VistuneError:
    """The error for an HTTP status other than 200: a RequestError if the run can go on, else a ClientError."""
    code, message = error_text(body)
    text = f"{code} {message}"
    if any(reason in text for reason in _NO_MONEY):
        return ClientError(f"the quota is used up: {message}", where=where, fix="add credit, then run the same command")
    if status < 500 and status not in _RETRY:
        if _TOO_LONG.search(text) or status == 413:
            return RequestError("context_length", message, retry=False)
        if _FILTERED.search(text):
            return RequestError("content_filter", message, retry=False)
    if status in _RETRY or (status >= 500 and status != 501):
        reason, overload = "rate_limited" if status == 429 else f"http_{status}", status in _OVERLOAD
        billed, wait = status in _GATEWAY_TIMEOUT, retry_after(headers)
        return RequestError(reason, message, retry_after=wait, overload=overload, billed=billed)
    if status in (400, 422):
        refused = RefusedError(f"HTTP {status}: {message}", where=where, fix=_FIXES[400])
        refused.details = text
        return refused
    return ClientError(f"HTTP {status}: {message}", where=where, fix=_FIXES.get(status, "see the server's message"))


def error_in_body(error: Any, where: str) -> RequestError | VistuneError:
    """The error for an `error` in place of the reply in a body whose status is 200, so that it may be charged."""
    code = error.get("code") if isinstance(error, Mapping) else None
    failure = fault(code if isinstance(code, int) and 400 <= code < 600 else 502, {"error": error}, {}, where)
    if isinstance(failure, RequestError):
        failure.billed = True
    return failure


def load_json(data: bytes | str) -> Any:
    """The parsed JSON; None for anything else, also for JSON that is nested too deep to parse."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def error_text(body: bytes | Mapping[str, Any]) -> tuple[str, str]:
    """The error's codes, types and parameter, and the message in at most 500 characters, from any usual form."""
    if isinstance(body, bytes):
        data = load_json(body)
        if data is None:
            return "", _shorten(re.sub(r"<[^>]*>", " ", body.decode("utf-8", "replace")))
        body = data
    error = body.get("error", body) if isinstance(body, Mapping) else body
    if not isinstance(error, Mapping):
        return "", _shorten(str(error))
    inner = error.get("innererror")
    codes = [error.get("code"), error.get("type"), error.get("param")]
    codes += [inner.get("code")] if isinstance(inner, Mapping) else []
    text = next((error[name] for name in ("message", "detail", "msg", "error") if error.get(name)), error)
    return " ".join(str(code) for code in codes if code), _shorten(text if isinstance(text, str) else json.dumps(text))


def retry_after(headers: Headers) -> float | None:
    """The seconds until the server accepts requests again; None if the headers have no finite number of them.

    From `retry-after-ms` or `Retry-After`; without these, the time until the last of the exhausted limits on requests
    and tokens is reset, in OpenAI's headers (`6m0s`) or Anthropic's (a time).
    """
    waits = [headers["Retry-After"]] if "Retry-After" in headers else []
    waits = [f"{headers['retry-after-ms']}ms"] if "retry-after-ms" in headers else waits
    if not waits:
        names = {f"x-ratelimit-remaining-{what}": f"x-ratelimit-reset-{what}" for what in _LIMITED}
        names |= {f"anthropic-ratelimit-{what}-remaining": f"anthropic-ratelimit-{what}-reset" for what in _LIMITED}
        waits = [headers[reset] for left, reset in names.items() if headers.get(left) == "0" and headers.get(reset)]
    try:
        seconds = max(map(parse_duration, waits), default=math.inf)
    except (ValueError, OverflowError):
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def parse_duration(text: str) -> float:
    """Seconds from now: `1s`, `6m0s`, `12ms`, `3.5`, or a time as in RFC 3339 or an HTTP header. Raises ValueError."""
    text = text.strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = _DURATION.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        when = parsedate_to_datetime(text)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - time.time()


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 500 else f"{text[:500]}…"
