"""The module ``uwsgi`` of a mule."""

from __future__ import annotations

import re

import pytest

from alarm_mw.app.workers import uwsgi_module


@pytest.mark.parametrize(
    ("name", "replacement"),
    [
        ("mule_msg", "alarm = NAME mule:NUMBER"),
        ("signal", "alarm = NAME signal:NUMBER"),
        ("lock", "fcntl.flock"),
        ("unlock", "fcntl.flock"),
        ("add_timer", "a scheduler such as APScheduler"),
        ("add_cron", "or cron"),
        ("metric_get", "alarm_mw.metrics.get"),
        ("metric_set", "alarm_mw.metrics.get, set"),
        ("metric_inc", "inc and dec"),
        ("cache_get", "Redis"),
        ("send_to_spooler", "there are: alarm, "),
    ],
)
def test_what_is_not_there_names_what_does_it_here(name: str, replacement: str) -> None:
    """A mule that was written for uWSGI says at its first use what is to be changed; `hasattr` is false."""
    with pytest.raises(AttributeError, match=rf"has no '{name}'; .*{re.escape(replacement)}"):
        getattr(uwsgi_module, name)
    assert not hasattr(uwsgi_module, name)
