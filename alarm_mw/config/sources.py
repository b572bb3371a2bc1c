"""Where a configuration comes from: the files and flags, which can be read again."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Self

import msgspec
from msgspec import structs

from alarm_mw.config.files import UnreadableError, read_bytes

#: The environment variable that names the files, separated by commas.
CONFIG_VARIABLE: Final = "ALARM_MW_CONFIG"

#: What is looked for in the working directory where nothing else is said.
DEFAULT_FILES: Final = ("alarm-mw.toml", "uwsgi.ini")

_UWSGI_SECTION = re.compile(rb"^[ \t]*\[uwsgi[^\]\n]*\][ \t\r]*$", re.MULTILINE)


class Sources(msgspec.Struct, frozen=True):
    """The files and flags of a configuration, in the order in which they count: TOML, ini, flags."""

    toml_files: tuple[str, ...] = ()
    #: Each may end in ``:section``.
    ini_files: tuple[str, ...] = ()
    #: Name without dashes and value: ``("log-alarm", "jabber ^TERRIBLE")``, as they stand on the command line.
    flags: tuple[tuple[str, str], ...] = ()
    #: What uWSGI would start with is a mistake: an unknown alarm in a rule, no alarm at all, …
    is_strict: bool = False
    #: Nobody named the files: they were found in the working directory.
    is_found: bool = False

    @classmethod
    def found(cls, environ: Mapping[str, str], folder: str = "", *, is_strict: bool = False) -> Self:
        """Return the files that count where none is given, in `folder` where they are relative.

        They are those that the environment names, else the first of `DEFAULT_FILES` that is there.
        """
        if named := environ.get(CONFIG_VARIABLE):
            files = [str(Path(folder, name)) for name in map(str.strip, named.split(",")) if name]
            return cls.of_files(files, is_strict=is_strict)
        paths = (str(Path(folder, name)) for name in DEFAULT_FILES)
        files = [*filter(os.path.isfile, paths)][:1]
        return structs.replace(cls.of_files(files, is_strict=is_strict), is_found=True)

    @classmethod
    def of_files(cls, files: Iterable[str], flags: Iterable[tuple[str, str]] = (), *, is_strict: bool = False) -> Self:
        """Tell ini files from TOML files by their names, else by what is in them; reads the latter."""
        names = [*files]
        ini = [is_ini(name) for name in names]
        return cls(
            tuple(name for name, answer in zip(names, ini, strict=True) if not answer),
            tuple(name for name, answer in zip(names, ini, strict=True) if answer),
            tuple(flags),
            is_strict,
        )


def is_ini(file: str) -> bool:
    """Tell whether a file is uWSGI's, in whatever form; one that cannot be read is taken for TOML."""
    name = file.rpartition("/")[2].lower()
    if re.search(r"\.(ini|ya?ml|js(on)?|xml)(:[^:]*)?$", name):
        return True
    if name.endswith(".toml"):
        return False
    try:
        return _UWSGI_SECTION.search(read_bytes(file)) is not None
    except UnreadableError:
        return False


def split_section(file: str) -> tuple[str, str]:
    """Return the file and the section of ``file:section``; the section is empty where none is named."""
    name, colon, section = file.rpartition(":")
    return (name, section) if colon and "/" not in section else (file, "")
