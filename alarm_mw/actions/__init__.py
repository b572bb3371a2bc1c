"""What an alarm does: one module or package per action, named as in the configuration.

To add the action ``foo``, create ``foo.py`` with a class ``FooAction`` that implements `alarm_mw.interfaces.Action`.
"""

from __future__ import annotations

from alarm_mw.model.interfaces import Action
from alarm_mw.model.plugins import Registry

_WEB = "use `curl`, as in curl:https://example.org/hook;method=POST"
_FORMATS = {
    **{name: name for name in ("slack", "discord", "teams", "mattermost", "googlechat", "pagerduty", "opsgenie")},
    "msteams": "teams",
    "alertmanager": "alertmanager",
    "otlp": "otlp",
    "cloudevents": "cloudevents",
}
_OF_APPRISE = {"telegram": "tgram", "ntfy": "ntfy", "pushover": "pover", "gotify": "gotify", "matrix": "matrix"}
_SERVICE = 'use `curl` with a format: in TOML action = "curl", url = "https://…", format = "{}"'
_APPRISE = 'use `apprise`, which knows this service: in TOML action = "apprise", url = "{}://…"'
_MAIL = "use `curl`, as in curl:smtps://mail.example.org;mail_to=me@example.org"
_SHELL = "use `cmd`, as in cmd:mail -s Alarm me@example.org"

_registry: Registry[Action] = Registry(
    kind="action",
    noun="alarm plugin",
    package=__name__,
    path=tuple(__path__),
    interface=("Options", "concurrency", "from_uwsgi", "deliver", "__aenter__", "__aexit__"),
    hints={
        **dict.fromkeys(("http", "https", "webhook", "web", "url", "post"), _WEB),
        **{name: _SERVICE.format(form) for name, form in _FORMATS.items()},
        **{name: _APPRISE.format(scheme) for name, scheme in _OF_APPRISE.items()},
        **dict.fromkeys(("mail", "email", "e-mail", "smtp", "smtps", "sendmail"), _MAIL),
        **dict.fromkeys(("command", "exec", "shell", "sh", "script", "run"), _SHELL),
        **dict.fromkeys(("jabber", "chat"), "use `xmpp`, as in xmpp:bot@example.org;PASSWORD;me@example.org"),
        **dict.fromkeys(("print", "stdout", "stderr", "screen", "console", "syslog"), "use `log`, as in log:"),
    },
)

names = _registry.names
own_names = _registry.own_names
find = _registry.find
