"""What a master publishes, as the application's processes see it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from alarm_mw.config.build import engine_of
from alarm_mw.config.load import from_keywords
from alarm_mw.engine.rules import compile_rule
from alarm_mw.master.records.publisher import Publisher
from alarm_mw.model.types import RequestConditions, Rule
from alarm_mw.patterns.record_prefilter import RecordRules, record_rules
from alarm_mw.transports.places import notice_path, published_path
from alarm_mw.transports.published import Content, Published, withdraw
from alarm_mw.transports.remote import RemoteClient


@pytest.fixture
def socket_path(tmp_path: Path) -> str:
    return str(tmp_path / "alarm.sock")


def may_match(client: RemoteClient, message: str) -> bool:
    prefilter = client.prefilter()
    return prefilter is None or prefilter.may_match(message)


def may_concern(client: RemoteClient, level: int, logger: str) -> bool:
    prefilter = client.prefilter()
    return prefilter is None or prefilter.may_concern(level, logger)


def rules_of(regexp: str) -> Content:
    settings = from_keywords(alarms={"a": "log:"}, log_alarms=[f"a {regexp}"])
    return Content(engine_of(settings).prefilter.records.rules)


def test_new_rules_count_from_the_next_log_call_on(socket_path: str) -> None:
    """A process that runs on learns of new rules at its next call, and of the next new ones as well."""
    client, publisher = RemoteClient(socket_path), Publisher(socket_path)
    publisher.publish(rules_of("OLD"))
    assert may_match(client, "OLD")
    assert not may_match(client, "NEW")
    for regexp in ("NEW", "NEWER", "NEWEST"):
        publisher.publish(rules_of(f"{regexp}$"))
        assert may_match(client, regexp)
        assert not may_match(client, "OLD")
    client.shutdown(0)


def test_a_level_that_no_rule_asked_for_may_be_asked_for_later(socket_path: str) -> None:
    """The question before a record is formatted learns of new rules as well."""
    client, publisher = RemoteClient(socket_path), Publisher(socket_path)
    for level, expected in (("ERROR", False), ("DEBUG", True), ("ERROR", False)):
        rule = compile_rule(Rule("x", ("a",), level=logging.getLevelNamesMapping()[level]))
        publisher.publish(Content(record_rules([rule])))
        assert may_concern(client, logging.INFO, "shop") is expected
    client.shutdown(0)


def test_new_conditions_on_requests_count_from_the_next_request_on(socket_path: str) -> None:
    """A process asks for no request before something is published, and follows each change after it."""
    client, publisher = RemoteClient(socket_path), Publisher(socket_path)
    assert not client.decision()
    for _ in range(2):
        client = RemoteClient(socket_path)
        for method in ("POST", "PUT"):
            rules = [Rule("", ("a",), request=RequestConditions(methods=(method,)))]
            publisher.publish_rules(rules, record_rules(map(compile_rule, rules)))
            assert [asked.methods for asked in client.decision().conditions] == [(method,)]
            assert client.decision() is client.decision()
    client.shutdown(0)


def test_the_next_master_goes_on_with_the_numbers(socket_path: str) -> None:
    """What another master publishes is noticed: its numbers go on where those of the first one ended."""
    client = RemoteClient(socket_path)
    Publisher(socket_path).publish(rules_of("OLD"))
    assert not may_match(client, "NEW")
    Publisher(socket_path).publish(rules_of("NEW"))
    assert may_match(client, "NEW")
    client.shutdown(0)


def test_nothing_is_read_while_nothing_has_changed(socket_path: str) -> None:
    """Between two publications the files are not looked at."""
    client = RemoteClient(socket_path)
    Publisher(socket_path).publish(rules_of("OLD"))
    assert not may_match(client, "NEW")
    withdraw(socket_path)
    assert not may_match(client, "NEW")
    client.shutdown(0)


def test_without_literals_every_record_may_match(socket_path: str) -> None:
    """A process that cannot have the rules, or no longer has the right ones, leaves it all to the master."""
    client, publisher = RemoteClient(socket_path), Publisher(socket_path)
    assert may_match(client, "NEW")
    publisher.publish(Content(RecordRules(None, ((None, None),))))
    later = RemoteClient(socket_path)
    assert may_match(later, "NEW")
    publisher.publish(rules_of("OLD"))
    running = RemoteClient(socket_path)
    assert not may_match(running, "NEW")
    publisher.publish(Content(RecordRules(None, ((None, None),))))
    assert may_match(running, "NEW")
    Path(published_path(socket_path)).write_bytes(b"of another version")
    assert may_match(RemoteClient(socket_path), "NEW")


def test_a_notice_that_is_being_made_is_looked_at_again(socket_path: str) -> None:
    """An empty notice is none yet."""
    Path(notice_path(socket_path)).touch()
    published = Published(socket_path)
    assert not published.open_notice()
    Publisher(socket_path).publish(Content(RecordRules()))
    assert published.open_notice()
    published.close()


def test_what_cannot_be_published_is_said(socket_path: str, caplog: pytest.LogCaptureFixture) -> None:
    """A directory that cannot be written leaves no half of a file, and a line in the log."""
    publisher = Publisher(f"{socket_path}/missing")
    assert not publisher.publish(Content(RecordRules()))
    assert "cannot be published" in caplog.text
    publisher.withdraw()
    assert not Path(socket_path).exists()
