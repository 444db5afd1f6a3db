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
    """The server refuses the form of the request (400, 422); `details` are its code, parameter and message."""

    def __init__(self, what: str, *, details: str, where: str = "", fix: str = "") -> None:
        super().__init__(what, where=where, fix=fix)
        self.details = details


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
        details = f"{_parameter(body)} {text}"
        return RefusedError(f"HTTP {status}: {message}", details=details, where=where, fix=_FIXES[400])
    return ClientError(f"HTTP {status}: {message}", where=where, fix=_FIXES.get(status, "see the server's message"))


def load_json(data: bytes | str) -> Any:
    """The parsed JSON; None for anything else, also for JSON that is nested too deep to parse."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def error_text(body: bytes | Mapping[str, Any]) -> tuple[str, str]:
    """The error's codes or types, and the server's message in at most 500 characters, from any of the usual forms."""
    if isinstance(body, bytes):
        data = load_json(body)
        if data is None:
            return "", _shorten(re.sub(r"<[^>]*>", " ", body.decode("utf-8", "replace")))
        body = data
    error = body.get("error", body) if isinstance(body, Mapping) else body
    if not isinstance(error, Mapping):
        return "", _shorten(str(error))
    inner = error.get("innererror")
    codes = [error.get("code"), error.get("type"), inner.get("code") if isinstance(inner, Mapping) else None]
    text = next((error[name] for name in ("message", "detail", "msg", "error") if error.get(name)), error)
    return " ".join(str(code) for code in codes if code), _shorten(text if isinstance(text, str) else json.dumps(text))


def retry_after(headers: Headers) -> float | None:
    """The seconds until the server accepts requests again; None if the headers have no finite number of them.

    From `retry-after-ms` or `Retry-After`; without these, the time until the last of the exhausted limits on requests
    and tokens is reset.
    """
    try:
        seconds = _retry_after(headers)
    except ValueError:
        return None
    return max(0.0, seconds) if seconds is not None and math.isfinite(seconds) else None


def parse_duration(text: str) -> float:
    """Seconds from now: `1s`, `6m0s`, `12ms`, `3.5`, or a time as in RFC 3339. Raises ValueError for anything else."""
    text = text.strip()
    if parts := _DURATION.findall(text):
        if "".join(number + unit for number, unit in parts) == text:
            return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    elif re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    when = datetime.fromisoformat(text)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - time.time()


def _retry_after(headers: Headers) -> float | None:
    if (milliseconds := headers.get("retry-after-ms")) is not None:
        return float(milliseconds) / 1000
    if (after := headers.get("Retry-After")) is None:
        return _limit_reset(headers)
    if re.fullmatch(r"\s*\d+(\.\d+)?\s*", after):
        return float(after)
    return parsedate_to_datetime(after).timestamp() - time.time()


def _limit_reset(headers: Headers) -> float | None:
    """Seconds until the exhausted limits in OpenAI's headers (`6m0s`) or Anthropic's (a time) are reset."""
    names = {f"x-ratelimit-remaining-{what}": f"x-ratelimit-reset-{what}" for what in _LIMITED}
    names |= {f"anthropic-ratelimit-{what}-remaining": f"anthropic-ratelimit-{what}-reset" for what in _LIMITED}
    resets = [headers.get(reset) for left, reset in names.items() if headers.get(left) == "0"]
    return max((parse_duration(reset) for reset in resets if reset), default=None)


def _parameter(body: bytes | Mapping[str, Any]) -> str:
    """The parameter that an error names as its cause, or an empty text."""
    data = load_json(body) if isinstance(body, bytes) else body
    error = data.get("error") if isinstance(data, Mapping) else None
    return str(error.get("param") or "") if isinstance(error, Mapping) else ""


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 500 else f"{text[:500]}…"
