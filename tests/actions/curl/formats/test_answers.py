"""What services say of a request in their answers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.actions.curl.formats.answers import Complaint, complaint, explain, read, wait

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["message", "error", "errors", "retry_after", "parameters", "ok", "partialSuccess", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"message": "You are being rate limited.", "retry_after": 0.65, "global": False}, 0.65),
        ({"ok": False, "parameters": {"retry_after": 35}}, 35.0),
        ({"error": {"code": 429, "retry_after": "7"}}, 7.0),
        ({"retry_after": -1}, None),
        ({"retry_after": True}, None),
        ({"retry_after": "soon"}, None),
        ({"retry_after": 10**400}, None),
        ({"message": "no"}, None),
        ([], None),
        (None, None),
    ],
)
def test_the_seconds_to_wait_are_found(said: object, expected: float | None) -> None:
    """Discord's, Telegram's and others' numbers of seconds; nothing that is none."""
    assert wait(said) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            {
                "code": 50035,
                "message": "Invalid Form Body",
                "errors": {"embeds": {"0": {"description": {"_errors": [{"code": "X", "message": "Too long."}]}}}},
            },
            "Invalid Form Body; description: Too long.",
        ),
        (
            {"status": "invalid event", "message": "Event object is invalid", "errors": ["'source' is missing"]},
            "Event object is invalid; 'source' is missing",
        ),
        ({"error": {"code": 400, "message": "Invalid JSON", "status": "INVALID_ARGUMENT"}}, "Invalid JSON"),
        ({"id": "x", "message": "Couldn't find the channel", "status_code": 404}, "Couldn't find the channel"),
        ({"message": "no", "errors": {"message": "too long"}}, "no; too long"),
        ("invalid_payload", "invalid_payload"),
        ({"ok": True}, ""),
        (None, ""),
    ],
)
def test_the_error_is_found_in_an_answer(said: object, expected: str) -> None:
    """What a service complains of, in a line, with the place that it names."""
    assert explain(said) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"ok": true}', None),
        ("ok", None),
        ("", None),
        ("[]", None),
        ('{"ok": false, "error": "channel_not_found"}', Complaint("channel_not_found", retry=False)),
        ('{"ok": false, "error": "ratelimited", "retry_after": 3}', Complaint("ratelimited", retry=True, after=3.0)),
        (
            '{"partialSuccess": {"rejectedLogRecords": "1", "errorMessage": "too old"}}',
            Complaint("the record was rejected: too old", retry=False),
        ),
        ('{"partialSuccess": {"rejectedLogRecords": "0"}}', None),
        ('{"partialSuccess": {}}', None),
        (
            "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429",
            Complaint(
                "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429",
                retry=True,
            ),
        ),
    ],
)
def test_an_error_in_an_answer_that_says_200_is_found(body: str, expected: Complaint | None) -> None:
    """Slack's API, OTLP and Teams say so that they have not taken a message."""
    assert complaint(read(body.encode()), body) == expected


@given(values)
def test_no_answer_is_an_exception(said: object) -> None:
    """Whatever JSON a service answers."""
    wait(said)
    assert "\n" not in explain(said) or "\n" in json.dumps(said, ensure_ascii=False).replace("\\n", "\n")
    complaint(said, str(said))


@given(st.binary(max_size=30))
def test_no_body_is_an_exception(body: bytes) -> None:
    """Whatever bytes a service answers."""
    assert read(body) is None or explain(read(body)) is not None
