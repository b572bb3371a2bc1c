"""Messages by Apprise, to its web hook on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner

from alarm_mw.actions.apprise import AppriseAction, AppriseOptions
from alarm_mw.cli.main import main
from alarm_mw.model.errors import ActionError
from alarm_mw.model.interfaces import ActionContext
from alarm_mw.model.types import Firing, Place, Texts

Make = Callable[..., Firing]
CONTEXT = ActionContext("a", lambda _: None, place=Place("web-3", "shop"), texts=Texts())


def urls(web_server: Any, *paths: str) -> tuple[str, ...]:
    return tuple(f"json://app:sekret@127.0.0.1:{web_server.port}/{path}" for path in paths)


def bodies(web_server: Any) -> list[dict[str, Any]]:
    return [json.loads(request.partition(b"\r\n\r\n")[2]) for request in web_server.requests]


def test_each_service_gets_title_and_text(web_server: Any, make_firing: Make) -> None:
    """The first line is the title, the rest the text."""
    AppriseAction(AppriseOptions(url=urls(web_server, "one", "two")), CONTEXT).deliver(make_firing(b"it failed\n"))
    first, second = bodies(web_server)
    assert (first["title"], second["title"]) == ("shop@web-3: it failed",) * 2
    assert first["message"].startswith("process 42 · rule ERR · ")
    assert first["type"] == "info"


def test_only_what_failed_is_tried_again(web_server: Any, make_firing: Make, reply: Callable[..., bytes]) -> None:
    """A service that has it does not get it twice; the next firing goes to all."""
    action = AppriseAction(AppriseOptions(url=urls(web_server, "one", "two")), CONTEXT)
    web_server.answer(reply(), reply("500 Internal Server Error"), reply())
    firing = make_firing()
    with pytest.raises(ActionError, match="JSON: ") as error:
        action.deliver(firing)
    assert error.value.retry
    action.deliver(firing)
    assert [request.split()[1] for request in web_server.requests] == [b"/one", b"/two", b"/two"]
    action.deliver(make_firing())
    assert len(web_server.requests) == 5


def test_no_url_is_shown(web_server: Any, make_firing: Make, reply: Callable[..., bytes]) -> None:
    """Neither an error nor the options nor a preview have what is secret in a URL."""
    options = AppriseOptions(url=urls(web_server, "sekret-token")[0])
    action = AppriseAction(options, CONTEXT)
    web_server.answer(reply("403 sekret-token"))
    with pytest.raises(ActionError) as error:
        action.deliver(make_firing())
    assert "sekret" not in f"{error.value} {options} {action.preview(make_firing())}"


@pytest.mark.parametrize("said", ["@everyone", "<@U1> x", "<!channel>", "@here", "\0\x1b[2J\r\n"])
def test_nobody_is_mentioned(said: str, web_server: Any, make_firing: Make) -> None:
    """What several services take for a mention is parted."""
    AppriseAction(AppriseOptions(url=urls(web_server, "x")), CONTEXT).deliver(make_firing(f"{said}\n{said}".encode()))
    (body,) = bodies(web_server)
    assert said not in body["title"] + body["message"]


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ((), "apprise needs a URL"),
        ("nothing", "url 1 (without a scheme)"),
        (("json://h", "nix://sekret"), "url 2 (nix)"),
    ],
)
def test_what_apprise_cannot_read_is_refused(url: tuple[str, ...] | str, problem: str) -> None:
    """At the start, with the URL's number and scheme and no more of it."""
    with pytest.raises(ValueError) as error:  # noqa: PT011  # its text is looked at
        AppriseOptions(url=url)
    assert problem in str(error.value)
    assert "sekret" not in str(error.value)


def test_a_check_says_which_services_they_are(tmp_path: Any) -> None:
    """`alarm-mw check` names them, so that a wrong scheme is seen."""
    config = tmp_path / "alarm-mw.toml"
    config.write_text("[alarms.a]\naction = 'apprise'\nurl = ['ntfy://topic', 'json://127.0.0.1']\n")
    config.chmod(0o600)
    result = CliRunner().invoke(main, ["check", str(config)])
    assert "alarm 'a': apprise: ntfy, JSON" in result.stdout
    assert result.exit_code == 0


def test_the_short_form_is_one_url() -> None:
    """`apprise:URL`."""
    assert AppriseAction.from_uwsgi("json://127.0.0.1/x") == AppriseOptions(url="json://127.0.0.1/x")
