from __future__ import annotations

from dataclasses import replace

import pytest

from vistune.llm import Message, Request, RequestError
from vistune.llm.faults import fault

ASKED = Request("be kind", (Message("user", "a"), Message("assistant", "b"), Message("user", "c")), "detail", 3, "7")


def test_the_key_is_fixed_for_good() -> None:
    """Another key would have every stored reply asked, and paid for, again."""
    assert ASKED.key("teacher") == "24e135dbc338678ae30f0e56559793d36fb8de55df810ac38c7b70b49516bfb2"


def test_the_key_depends_on_all_that_is_asked_and_of_whom() -> None:
    others = [
        replace(ASKED, system="be brief"),
        replace(ASKED, seed=4),
        replace(ASKED, kind="reasoning"),
        replace(ASKED, messages=ASKED.messages[2:]),
        replace(ASKED, messages=(Message("user", "ab"), *ASKED.messages[1:])),
        replace(ASKED, messages=(Message("assistant", "a"), *ASKED.messages[1:])),
    ]
    keys = {ASKED.key("teacher"), ASKED.key("other"), *(one.key("teacher") for one in others)}
    assert len(keys) == 2 + len(others)


def test_the_key_does_not_depend_on_the_records_name() -> None:
    assert replace(ASKED, record_id="8").key("teacher") == ASKED.key("teacher")


def test_the_query_is_the_last_message() -> None:
    assert ASKED.query == "c"


@pytest.mark.parametrize(("status", "billed"), [(408, True), (429, False), (500, False), (503, False), (504, True)])
def test_a_gateway_s_time_out_may_have_been_paid_for(status: int, billed: bool) -> None:
    error = fault(status, b"<html>late</html>", {}, "here")
    assert isinstance(error, RequestError)
    assert (error.retry, error.billed) == (True, billed)
