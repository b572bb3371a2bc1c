"""The command ``alarm-mw``."""

from __future__ import annotations

import atexit
import gc
import importlib
from typing import Final

import click

from alarm_mw.model.version import VERSION

#: The verbs in the order of the help, each in the module of its name except where `_MODULES` says otherwise.
VERBS: Final = (
    "run",
    "follow",
    "hub",
    "cron",
    "deliver",
    "check",
    "test",
    "drill",
    "route",
    "replay",
    "suggest",
    "status",
    "top",
    "fleet",
    "reload",
    "dead",
    "silence",
    "unsilence",
    "incidents",
    "ack",
    "unack",
    "resolve",
    "history",
    "noise",
    "heartbeat",
    "web",
    "plugins",
    "schema",
    "migrate",
)
_MODULES: Final = {
    "schema": "plugins",
    "run": "start.run",
    "follow": "start.follow",
    "hub": "start.hub",
    "cron": "start.cron",
    "deliver": "start.deliver",
    "test": "trial.test",
    "drill": "trial.drill",
    "route": "trial.route",
    "status": "status.command",
    "fleet": "status.fleet",
    "top": "top.command",
    "web": "web.command",
    "unsilence": "silence",
    "replay": "replay.command",
    "suggest": "suggest.command",
    "noise": "suggest.noise",
    **dict.fromkeys(("ack", "unack", "resolve", "history"), "incidents"),
}


class Verbs(click.Group):
    """Loads a verb's module when the verb is called, so that `run` does not load the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """Return the verbs' names."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's signature
        """Return the verb's command, or None if there is no such verb."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"alarm_mw.cli.{_MODULES.get(cmd_name, cmd_name)}")
        command = getattr(module, cmd_name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the verb's command; suggest the verb that is meant by an unknown one."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            from alarm_mw.model.keyvalue import did_you_mean  # noqa: PLC0415  # imported only for mistakes

            ctx.fail(f"No such command {args[0]!r}{did_you_mean(args[0], VERBS)}.")
        return super().resolve_command(ctx, args)


# At exit, Python runs a garbage collection over all loaded objects, which takes 10 ms.
atexit.register(gc.freeze)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="alarm-mw")
def main() -> None:
    """Alarms for Python web applications: any line that an app prints or logs can raise an alarm."""
