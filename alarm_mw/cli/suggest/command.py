"""The command itself."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import click

from alarm_mw.cli.replay.journals import entries
from alarm_mw.cli.replay.logs import files_of
from alarm_mw.cli.suggest.proposals import Proposal, Study
from alarm_mw.config.tables.follow import JOURNAL
from alarm_mw.master.follow.entries import record_of
from alarm_mw.model.printable import printable
from alarm_mw.system.compression import DAMAGED, decompressed


@click.command()
@click.option(
    "--baseline", multiple=True, metavar="FILE", help="A log of times when all was well: nothing in it is suggested."
)
@click.option("--alarm", default="mail", show_default=True, help="The name of the alarm that the rules fire.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="Maximum number of rules.")
@click.option("--toml", "as_toml", is_flag=True, help="Print the rules without asking, as without a terminal.")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Append the rules to this file.")
@click.argument("files", nargs=-1, required=True)
def suggest(
    files: tuple[str, ...], baseline: tuple[str, ...], alarm: str, limit: int, *, as_toml: bool, output: str | None
) -> None:
    """Suggest rules for what looks like trouble in logs; "-" is the standard input.

    A FILE may be compressed, a directory, a pattern such as "logs/*.log", or "journal:UNIT[,UNIT]".

    Groups the lines by what they have in common, ranks the groups by level, by words such as "failed" and by how rare
    they are, and writes a rule for each. Each rule was tried on the logs: it matches the lines of its group, and no
    other. On a terminal you keep, skip or edit each rule; what you keep is printed at the end.
    """
    study = Study()
    for log in _logs(files):
        study.read(_lines(log))
    for log in _logs(baseline):
        study.read_baseline(_lines(log))
    proposals = study.proposals(limit)
    if as_toml or not (sys.stdin.isatty() and sys.stdout.isatty()):
        rules = [proposal.toml(alarm) for proposal in proposals]
    else:
        rules = list(_asked(proposals, alarm))
    if not rules:
        click.echo("nothing looks like trouble, or no rule is kept", err=True)
    elif output is None:
        click.echo("\n".join(rules), nl=False)
    else:
        with Path(output).open("a", encoding="utf-8") as stream:
            stream.write("\n" + "\n".join(rules))
        click.echo(f"{len(rules)} rules appended to {output}: alarm-mw check {output}", err=True)


def _logs(names: tuple[str, ...]) -> list[str]:
    try:
        return files_of(names)
    except FileNotFoundError as error:
        raise click.UsageError(str(error)) from error


def _lines(file: str) -> Iterator[str]:
    """Yield the lines of a log, compressed or not; of a journal, the first line of each entry."""
    with ExitStack() as steps:
        try:
            if file.startswith(JOURNAL):
                read: Iterable[bytes] = (record_of(entry).message.partition(b"\n")[0] for entry in entries(file))
            else:
                read = decompressed(steps.enter_context(click.open_file(file, "rb")))
            for line in read:
                if text := line.decode("utf-8", "replace").rstrip():
                    yield text
        except DAMAGED as error:
            raise click.ClickException(f"{file}: cannot be read: {error}") from error


def _asked(proposals: Iterator[Proposal], alarm: str) -> Iterator[str]:
    """Yield the rules that a person wants."""
    for number, proposal in enumerate(proposals, 1):
        share = 100 * proposal.count / max(proposal.lines, 1)
        click.echo(
            f"\n{number}. {proposal.name}: {proposal.count:,} of {proposal.lines:,} lines ({share:.2g} %)", err=True
        )
        for example in proposal.examples:
            click.echo(f"   {printable(example)}", err=True)
        click.echo(f"   pattern: {proposal.regexp}", err=True)
        answer = click.prompt("   keep, skip, edit or quit", type=_ANSWER, default="keep", err=True, show_choices=False)
        if answer in ("quit", "q"):
            return
        if answer in ("keep", "k"):
            yield proposal.toml(alarm)
        elif answer in ("edit", "e") and (edited := click.edit(proposal.toml(alarm), extension=".toml")):
            yield edited


_ANSWER = click.Choice(["keep", "k", "skip", "s", "edit", "e", "quit", "q"])
