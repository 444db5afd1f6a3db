"""What a server's answer means when it is no reply: go on without it, ask again, or stop the run."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from vistune.errors import ClientError, VistuneError
from vistune.llm.client import RequestError

Headers = Mapping[str, str]

_BUSY = frozenset({429, 503, 529})
_LATE = frozenset({408, 504, 524})  # a gateway gave up; the reply may have been written, and paid for, all the same
_AGAIN = frozenset({408, 409, 425, 429})
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
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_FIXES = {
    400: "the request as such is refused: see the server's words",
    401: "check the key and the variable that holds it (--key-env)",
    402: "the account has no credit left",
    403: "check what the key may do",
    404: "check the model's name and --base-url (it usually ends in /v1)",
}


class RefusedError(ClientError):
    """The server does not take such a request (400, 422); `told` is all that it says about why."""

    def __init__(self, what: str, *, told: str, where: str = "", fix: str = "") -> None:
        super().__init__(what, where=where, fix=fix)
        self.told = told


def fault(status: int, body: bytes | Mapping[str, Any], headers: Headers, where: str) -> RequestError | VistuneError:
    """The error for an answer of this status: a RequestError if the run can go on, else a ClientError."""
    code, words = said(body)
    told = f"{code} {words}"
    if any(reason in told for reason in _NO_MONEY):
        return ClientError(f"the quota is used up: {words}", where=where, fix="add credit, then run the same command")
    if status < 500 and status not in _AGAIN:
        if _TOO_LONG.search(told) or status == 413:
            return RequestError("context_length", words, retry=False)
        if _FILTERED.search(told):
            return RequestError("content_filter", words, retry=False)
    if status in _AGAIN or (status >= 500 and status != 501):
        reason = "rate_limited" if status == 429 else f"http_{status}"
        return RequestError(reason, words, retry_after=wait(headers), overload=status in _BUSY, billed=status in _LATE)
    if status in (400, 422):
        return RefusedError(f"HTTP {status}: {words}", told=f"{parameter(body)} {told}", where=where, fix=_FIXES[400])
    return ClientError(f"HTTP {status}: {words}", where=where, fix=_FIXES.get(status, "see the server's words"))


def parameter(body: bytes | Mapping[str, Any]) -> str:
    """The `param` that an error names as its cause, or an empty text."""
    try:
        error = json.loads(body)["error"] if isinstance(body, bytes) else body["error"]
        return str(error["param"] or "")
    except (ValueError, LookupError, TypeError):
        return ""


def said(body: bytes | Mapping[str, Any]) -> tuple[str, str]:
    """The error's code (or type) and the server's own words, from whatever form they have; at most 500 characters."""
    if isinstance(body, bytes):
        text = body.decode("utf-8", "replace").strip()
        try:
            body = json.loads(text)
        except ValueError:
            return "", _short(re.sub(r"<[^>]*>", " ", text))
    error = body.get("error", body) if isinstance(body, Mapping) else body
    if not isinstance(error, Mapping):
        return "", _short(str(error))
    inner = error.get("innererror")
    codes = [error.get("code"), error.get("type"), inner.get("code") if isinstance(inner, Mapping) else None]
    words = next((error[name] for name in ("message", "detail", "msg", "error") if error.get(name)), error)
    return " ".join(str(code) for code in codes if code), _short(words if isinstance(words, str) else json.dumps(words))


def wait(headers: Headers) -> float | None:
    """The seconds that the server wants to be left alone; None if not said.

    By `retry-after-ms` or `Retry-After`; without, of the limits on requests and tokens that are used up, by the time
    until the last one is reset.
    """
    try:
        if (ms := headers.get("retry-after-ms")) is not None:
            return max(0.0, float(ms) / 1000)
        if (after := headers.get("Retry-After")) is None:
            return _reset(headers)
        if re.fullmatch(r"\s*\d+(\.\d+)?\s*", after):
            return float(after)
        return max(0.0, parsedate_to_datetime(after).timestamp() - time.time())
    except ValueError:
        return None


def _reset(headers: Headers) -> float | None:
    """Until the limits of OpenAI's headers (`6m0s`) or Anthropic's (a time) that are used up are reset."""
    names = {f"x-ratelimit-remaining-{what}": f"x-ratelimit-reset-{what}" for what in _LIMITED}
    names |= {f"anthropic-ratelimit-{what}-remaining": f"anthropic-ratelimit-{what}-reset" for what in _LIMITED}
    resets = [headers.get(reset) for left, reset in names.items() if headers.get(left) == "0"]
    return max((span(reset) for reset in resets if reset), default=None)


def span(text: str) -> float:
    """Seconds from now: `1s`, `6m0s`, `12ms`, `3.5`, or a time as in RFC 3339. Raises ValueError for all else."""
    text = text.strip()
    if found := _SPAN.findall(text):
        if "".join(number + unit for number, unit in found) == text:
            return sum(float(number) * _SECONDS[unit] for number, unit in found)
    elif re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    when = datetime.fromisoformat(text)
    return max(0.0, (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - time.time())


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 500 else f"{text[:500]}…"
