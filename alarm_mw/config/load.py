"""Loads a configuration: from files and flags, or keywords, to one frozen Settings, or to everything that is wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence

from msgspec import structs

from alarm_mw import actions
from alarm_mw.config.lint.permissions import refuse_foreign, warn_of_exposed, warn_of_foreign
from alarm_mw.config.literal_cache import LiteralCache
from alarm_mw.config.merge import merge
from alarm_mw.config.parts import Entry, FindAction, Part
from alarm_mw.config.report import Examined, OnProgress, Report, ignore_progress
from alarm_mw.config.settings import Loaded, Settings
from alarm_mw.config.sources import CONFIG_VARIABLE, DEFAULT_FILES, Sources, noted, split_section
from alarm_mw.config.tables.follow import follow_of
from alarm_mw.config.tables.tables import read_tables
from alarm_mw.config.tables.tree import Origin, Path, Table, kind_of
from alarm_mw.config.toml.document import read_toml
from alarm_mw.model.errors import ConfigError, Problem
from alarm_mw.model.types import Syntax, Where
from alarm_mw.system.forks import held_off


def load(
    sources: Sources,
    environ: Mapping[str, str],
    *,
    find_action: FindAction = actions.find,
) -> Settings:
    """Return the settings that files and flags make together; raise `ConfigError` with every problem found.

    All alarms count; rules are in the order TOML files, ini files, flags; if a number is set twice, the last value
    counts. Reads files, so it can block.
    """
    return _usable(examine(sources, environ, find_action=find_action))


def examine(
    sources: Sources,
    environ: Mapping[str, str],
    *,
    find_action: FindAction = actions.find,
    on_progress: OnProgress = ignore_progress,
) -> Examined:
    """Do what `load` does, but return the settings with problems and warnings.

    `on_progress` is called before each rule whose regexp is read for the first time, and after the last one.
    """
    report = Report(on_progress=on_progress)
    with noted() as files:
        parts = _parts(sources, environ, find_action, report)
    if sources.follow:
        parts.append(_follow_part(sources, report))
    settings = merge(parts, LiteralCache.of_user(environ), report)
    warn_of_exposed(settings, files, report)
    warn_of_foreign(files, report)
    _warn_of_hub(settings, report)
    _warn_of_none(settings, sources, report)
    return _examined(settings, report, sources)


def from_keywords(
    config: str | os.PathLike[str] | None = None,
    alarms: Mapping[str, str | Mapping[str, object]] | None = None,
    log_alarms: Sequence[str] = (),
    not_log_alarms: Sequence[str] = (),
    *,
    alarm_freq: float | None = None,
    alarm_msg_size: int | None = None,
    alarm_rate: str | None = None,
    environ: Mapping[str, str] | None = None,
    find_action: FindAction = actions.find,
) -> Settings:
    """Return the settings that the keywords of ``init()`` make, after those of the file `config`.

    `alarms` has ``"plugin:args"`` or a table of options under each name, rules are ``"NAME[,NAME…] REGEXP"`` with
    Python's regexps. The exclusions of `not_log_alarms` come before `log_alarms`. Values are taken as they are: no
    variables of the environment are put in; `environ` (by default the process's) is for the file. Without a file, an
    alarm and a rule, those count that are found. Raises `ConfigError` with every problem found. Reads files: may block.
    """
    report = Report()
    environ = os.environ if environ is None else environ
    files = _config_files(config, report)
    is_given = files or alarms or log_alarms or not_log_alarms
    sources = Sources.of_files(files) if is_given else Sources.found(environ)
    with noted() as read_files:
        parts = _parts(sources, environ, find_action, report)
    given = {"alarm_freq": alarm_freq, "alarm_msg_size": alarm_msg_size, "alarm_rate": alarm_rate}
    values = {**{name: value for name, value in given.items() if value is not None}, "alarms": alarms or {}}
    parts.append(read_tables(Table(values, Origin(_keyword, report)), find_action))
    rules = [
        *_rule_entries("not_log_alarms", not_log_alarms, report),
        *_rule_entries("log_alarms", log_alarms, report),
    ]
    if rules:
        with held_off():  # as in `_parts`
            from alarm_mw.config.uwsgi.options import read_options  # noqa: PLC0415
        parts.append(read_options(rules, find_action, report, syntax=Syntax.PYTHON, is_strict=True))
        parts[-1].has_whole_tracebacks = True
    settings = merge(parts, LiteralCache.of_user(environ), report)
    warn_of_exposed(settings, read_files, report)
    warn_of_foreign(read_files, report)
    _warn_of_hub(settings, report)
    return _usable(_examined(settings, report, sources))


def _warn_of_none(settings: Settings, sources: Sources, report: Report) -> None:
    """Warn where no alarm is configured: a run in the wrong directory finds its file at night only."""
    if settings.alarms or settings.left_out or settings.mules or report.problems or report.tolerated:
        return
    files = [*sources.toml_files, *sources.ini_files]
    missing = f"; {' and '.join(DEFAULT_FILES)} are not in this directory, and {CONFIG_VARIABLE} names no file"
    advice = "" if files or sources.flags else missing
    where, text = Where(files[0] if files else "alarm-mw"), f"no alarm is configured, so none can fire{advice}"
    if sources.ini_files or sources.flags:
        report.doubt(where, text, is_strict=False)
    else:
        report.warn(where, text)


def _warn_of_hub(settings: Settings, report: Report) -> None:
    """Warn about alarms that leave their messages to a hub where none can take them."""
    if report.problems:  # [fleet] may be one of them
        return
    for alarm in settings.alarms:
        if alarm.plugin != "hub":
            continue
        if settings.fleet is None:
            text = "action 'hub' without a table [fleet]: no hub can take its messages, which wait here"
            report.warn(alarm.where, f"alarm {alarm.name!r}: {text}")
        elif settings.fleet.hub:
            text = "action 'hub' in a hub leaves its messages to itself: use the action that delivers them"
            report.warn(alarm.where, f"alarm {alarm.name!r}: {text}")


def _parts(sources: Sources, environ: Mapping[str, str], find_action: FindAction, report: Report) -> list[Part]:
    if sources.is_found and any(refuse_foreign(file, report) for file in (*sources.toml_files, *sources.ini_files)):
        return []
    tables = [read_toml(file, environ, report) for file in sources.toml_files]
    parts = [read_tables(table, find_action) for table in tables if table is not None]
    if sources.ini_files or sources.flags:
        with held_off():  # not needed for TOML alone
            from alarm_mw.config.uwsgi.options import read_uwsgi  # noqa: PLC0415
        parts += read_uwsgi(sources, environ, find_action, report)
    return parts


def _follow_part(sources: Sources, report: Report) -> Part:
    """Return the logs that the command line names."""
    # Where nothing else is said, whole tracebacks are wanted: the other parts decide.
    part = Part(has_whole_tracebacks=True)
    for argument in sources.follow:
        try:
            part.follow.append(follow_of(argument, "beginning" if sources.follows_from_beginning else "end"))
        except ValueError as error:
            report.wrong(Where(argument), str(error))
    return part


def _rule_entries(keyword: str, rules: Sequence[str], report: Report) -> list[Entry]:
    """Return the rules as the options that they would be; what is no list of strings goes to `report`."""
    option = keyword.removesuffix("s").replace("_", "-")
    items: Sequence[object] = rules
    if isinstance(items, str) or not isinstance(items, Sequence):
        report.wrong(_keyword((keyword,)), f"expected a list of rules, got {kind_of(items)}")
        return []
    for index, rule in enumerate(items):
        if not isinstance(rule, str):
            report.wrong(_keyword((keyword, index)), f"expected a string, got {kind_of(rule)}")
    texts = {index: rule for index, rule in enumerate(items) if isinstance(rule, str)}
    return [Entry(option, rule, _keyword((keyword, index))) for index, rule in texts.items()]


def _config_files(config: object, report: Report) -> list[str]:
    """Return the file that was given, if one was; what is no path goes to `report`."""
    if config is None:
        return []
    if isinstance(config, (str, os.PathLike)):
        return [os.fsdecode(config)]
    text = (
        f'expected the path of a file, got {kind_of(config)}; alarms are given as init(alarms={{"NAME": "PLUGIN:…"}})'
    )
    report.wrong(_keyword(("config",)), text)
    return []


def _keyword(path: Path) -> Where:
    """Name a value inside of the keywords as one would write it: ``init(alarms["jabber"])``."""
    keyword, *keys = path
    written = (json.dumps(key) if isinstance(key, str) else repr(key) for key in keys)
    return Where(f"init({keyword}{''.join(f'[{key}]' for key in written)})")


def _examined(settings: Settings, report: Report, sources: Sources) -> Examined:
    files = [*sources.toml_files, *(split_section(file)[0] for file in sources.ini_files)]
    doubtful = [*report.problems, *report.tolerated], report.warnings
    tolerant = report.problems, [*report.tolerated, *report.warnings]
    problems, warnings = (_sorted(found, files) for found in (doubtful if sources.is_strict else tolerant))
    return Examined(structs.replace(settings, warnings=warnings), problems, warnings)


def _sorted(problems: Sequence[Problem], files: Iterable[str]) -> tuple[Problem, ...]:
    """Order by line, in the order of the files; what they include and what is no file comes after them."""
    order = {file: index for index, file in enumerate(dict.fromkeys([*files, *(one.where.file for one in problems)]))}
    return tuple(sorted(problems, key=lambda problem: (order[problem.where.file], problem.where.line)))


def _usable(examined: Examined) -> Settings:
    if examined.problems:
        raise ConfigError(examined.problems)
    return examined.settings


def read(
    sources: Sources,
    environ: Mapping[str, str],
    now: float,
    generation: int = 0,
    on_progress: OnProgress = ignore_progress,
) -> tuple[Examined, Loaded]:
    """Read a configuration: what is to be said about it, and, if there are no problems, what is to be in force.

    `now` is in seconds since the epoch; `on_progress` is that of `examine`. Reads files, and so may block.
    """
    with noted() as files:
        examined = examine(sources, environ, on_progress=on_progress)
    return examined, Loaded(examined.settings, (), sources, files, generation, now)
