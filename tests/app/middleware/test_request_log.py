"""What a request has logged."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.app.middleware.request_log import MAX_SHOWN, RequestLog


def log_of(count: int, *messages: bytes) -> RequestLog:
    log = RequestLog(count)
    for message in messages:
        log.add(message)
    return log


def test_the_last_records_are_kept_in_order() -> None:
    """Of more records than asked for, the last ones are kept, with all of their lines."""
    assert log_of(2, b"1\n", b"2\n", b"3\n  below\n").text() == "2\n3\n  below"


def test_a_request_that_logged_nothing_has_no_text() -> None:
    """Where nothing was logged, nothing is shown."""
    assert log_of(2).text() == ""


def test_bytes_that_are_no_text_are_shown() -> None:
    """A record need not be UTF-8."""
    assert log_of(2, b"\xff\n").text() == "\\xff"


def test_a_long_traceback_keeps_what_failed() -> None:
    """It is cut in the middle and says so: its beginning shows the message, its end the exception."""
    frames = "".join(f'  File "shop.py", line {n}, in pay\n    charge(order)\n' for n in range(100))
    text = log_of(2, f"payment failed\nTraceback (most recent call last):\n{frames}OSError: no bank\n".encode()).text()
    lines = text.split("\n")
    assert (lines[0], lines[-1]) == ("payment failed", "OSError: no bank")
    assert [line for line in lines if "bytes are left out" in line] == ["[4261 bytes are left out here]"]
    assert all(line.startswith(("  File", "    charge")) for line in lines[2:-1] if "left out" not in line)


def test_a_long_line_keeps_its_beginning_and_its_end() -> None:
    """A record of one line is cut in the middle as well."""
    text = log_of(2, b"begin" + b"x" * 5000 + b"end\n").text()
    assert text.startswith("begin")
    assert text.endswith("end")
    assert len(text) < 1100


@given(st.lists(st.binary(max_size=3000), max_size=30))
def test_the_text_is_bounded_and_ends_with_the_newest(messages: list[bytes]) -> None:
    """However much was logged, what is shown fits into an alarm, and the newest record is in it."""
    text = log_of(20, *messages).text().encode("utf-8", "surrogatepass")
    assert len(text) <= 4 * MAX_SHOWN
    if messages:
        assert text.decode("utf-8", "backslashreplace").endswith(
            messages[-1].rstrip(b"\n")[-300:].decode("utf-8", "backslashreplace")
        )
