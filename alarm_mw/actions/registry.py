"""Finds an action by the name that the configuration uses."""

from __future__ import annotations

from alarm_mw import actions
from alarm_mw.interfaces import Action
from alarm_mw.plugins import Registry

#: Modules of this package that serve actions and are none.
_HELPERS = frozenset(
    {
        "addresses",
        "airbrake_notice",
        "backtrace",
        "blocking",
        "checks",
        "child",
        "http",
        "http_transport",
        "libcurl",
        "mail",
        "mail_message",
        "masking",
        "recipients",
        "registry",
        "speakers",
        "tls",
        "url",
        "xmpp_client",
        "xmpp_guard",
        "xmpp_messages",
        "xmpp_session",
    }
)

_registry: Registry[Action] = Registry(
    kind="action",
    noun="alarm plugin",
    package=actions,
    helpers=_HELPERS,
    interface=("Options", "concurrency", "from_uwsgi", "deliver", "__aenter__", "__aexit__"),
)

names = _registry.names
find = _registry.find
