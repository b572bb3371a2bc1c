"""``alarm-mw noise``: which rules sent messages that nobody needed, and what would have spared them."""

from __future__ import annotations

import json
import time

import click
import msgspec

from alarm_mw.cli.console import console, plain_text, table
from alarm_mw.cli.servers import ask_api, placed
from alarm_mw.engine.incidents.episodes import episodes_of, noise_by_rule
from alarm_mw.engine.incidents.stored import Event
from alarm_mw.model.printable import printable

_DAY = 86_400


@click.command()
@click.option("--days", default=14, show_default=True, type=click.IntRange(1, 3650), help="How far to look back.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@placed
def noise(days: int, as_json: bool, state_dir: str | None, socket_path: str | None) -> None:
    """Show which rules sent messages that nobody needed.

    An episode of an incident is noise if nobody acknowledged it and it was over within a minute. Below the table stands
    which settings would have made fewer messages, each tried on the same history. Exit status 1 if no server answers.
    """
    events = ask_api(state_dir, socket_path, f"/api/1/history?since={time.time() - days * _DAY}")
    rules = noise_by_rule(episodes_of(msgspec.convert(events, list[Event])))
    if as_json:
        found = [msgspec.to_builtins(rule) | {"percent": rule.percent, "remedy": rule.remedy} for rule in rules]
        click.echo(json.dumps(found, indent=2))
        return
    if not rules:
        click.echo(f"no incident in the last {days} days")
        return
    shown = table("rule", "episodes", "messages", "acked", "noise", "again", "flapping")
    shown.columns[4].no_wrap = True  # a number and its percentage
    for rule in rules:
        figures = (rule.episodes, rule.messages, rule.acknowledged)
        share = f"{rule.noise} ({rule.percent} %)"
        shown.add_row(printable(rule.rule), *map(str, figures), share, str(rule.again), str(rule.flapping))
    terminal = console()
    terminal.print(shown)
    helped = [(rule.rule, list(map(str, rule.remedies)) or [rule.remedy]) for rule in rules if rule.remedy]
    if helped:
        terminal.print("what would help:")
    for name, remedies in helped:
        terminal.print(plain_text(f"  {name}"), soft_wrap=True)
        for remedy in remedies:
            terminal.print(plain_text(f"    {remedy}"), soft_wrap=True)
