"""What is left of a text that may contain secrets."""

from __future__ import annotations

import pytest

from alarm_mw.model.masking import mask_values


@pytest.mark.parametrize(
    ("text", "secret", "expected"),
    [
        ("key: got 's3c'", "s3c", "key: got '********'"),
        ("key: expected one of them", "x", "key: expected one of them"),
        ("url: expected redis://HOST", "redis://", "url: expected redis://HOST"),
        ("url: redis://u:pw@h is none", "redis://u:pw@h", "url: ******** is none"),
    ],
)
def test_a_short_value_is_no_word_of_a_message(text: str, secret: str, expected: str) -> None:
    """Long values are masked anywhere in a message about a configuration, short ones where they are quoted."""
    assert mask_values(text, [secret]) == expected
