"""What the ini files and the flags of a configuration say, in uWSGI's words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from alarm_mw.config.part import FindAction, Part
from alarm_mw.config.report import Report, ordinal
from alarm_mw.config.sources import Sources
from alarm_mw.config.uwsgi.entry import Entry
from alarm_mw.config.uwsgi.expand import expand
from alarm_mw.config.uwsgi.ini import read_ini
from alarm_mw.config.uwsgi.options import read_options
from alarm_mw.config.uwsgi.process import read_execution, read_socket_timeout
from alarm_mw.model.interfaces import Execution
from alarm_mw.model.types import Where


def read_uwsgi(sources: Sources, environ: Mapping[str, str], find_action: FindAction, report: Report) -> list[Part]:
    """Return a part for each ini file, and one for the flags; what is wrong goes to `report`. Reads files."""
    files = [read_ini(file, environ, report) for file in sources.ini_files]
    flags = expand(_flag_entries(sources.flags), environ, report)
    groups = [*files, flags]
    entries = [entry for group in groups for entry in group]
    timeout, execution = read_socket_timeout(entries, report), read_execution(entries, report)
    parts = [
        read_options(group, find_action, report, socket_timeout=timeout, folder=execution.chdir) for group in groups
    ]
    if execution != Execution():
        parts[-1].fields["execution"] = execution
    return parts


def _flag_entries(flags: Iterable[tuple[str, str]]) -> list[Entry]:
    seen: Counter[str] = Counter()
    entries = []
    for name, value in flags:
        seen[name] += 1
        entries.append(Entry(name, value, Where(f"--{name} ({ordinal(seen[name])})")))
    return entries
