"""Other formats of uWSGI's configuration: YAML and JSON are read as in uWSGI, XML is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from alarm_mw.config.parts import Entry
from alarm_mw.config.uwsgi.magic import MagicLine
from alarm_mw.model.types import Where

if TYPE_CHECKING:
    from yaml.nodes import Node

#: What the name of a file ends in.
FORMS = {"yaml": "YAML", "yml": "YAML", "json": "JSON", "js": "JSON", "xml": "XML"}
_CONVERT = "write it as an ini file: a line [uwsgi], and below it a line 'alarm = …' for each alarm"


class FormError(Exception):
    """A file cannot be read in its form; the text says why, and how to convert it."""

    def __init__(self, text: str, line: int = 0) -> None:
        """Take what is wrong, and its line if known."""
        super().__init__(text)
        self.line = line


def form_of(file: str, text: str) -> str:
    """Return ``YAML``, ``JSON`` or ``XML`` by a file's name, else by how its text begins; empty for an ini file."""
    extension = file.rpartition(".")[2].lower()
    if extension in FORMS:
        return FORMS[extension]
    if extension == "ini":
        return ""
    begins = {"<": "XML", "{": "JSON"}.get(text.lstrip()[:1], "")
    return begins or ("YAML" if re.search(r"^uwsgi[ \t]*:", text, re.MULTILINE) else "")


def parse_form(lines: Sequence[MagicLine], file: str, section: str, form: str) -> Iterator[Entry]:
    """Yield the entries of one section, each item of a list as one. Raises `FormError`."""
    if form == "XML":
        raise FormError(f"this is XML, which is not supported; {_CONVERT}")
    text = "\n".join(line.text for line in lines)
    root = _composed(text, form)
    # Without aliases, an entry takes a character at least.
    left = len(text)
    for name, inner in root.value if root is not None and root.id == "mapping" else ():
        if name.value == section and inner.id == "mapping":
            for key, value in inner.value:
                entries = list(_entries(str(key.value), value, lines, file))
                left -= len(entries)
                if left < 0:
                    line = lines[key.start_mark.line].number
                    raise FormError("its aliases amount to more entries than it has characters", line)
                yield from entries


def _composed(text: str, form: str) -> Node | None:
    """Return the outermost node. JSON is read as YAML, whose parser reports lines."""
    try:
        import yaml  # noqa: PLC0415  # an extra, for those who have such files
    except ImportError:
        advice = f"pip install 'alarm-mw[yaml]'; or {_CONVERT}"
        raise FormError(f"this is {form}, which needs the package 'pyyaml': {advice}") from None
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise FormError(f"this is no {form}: {error.problem}", line) from None
    except (yaml.YAMLError, RecursionError) as error:
        raise FormError(f"this is no {form}: {str(error).partition(chr(10))[0]}") from None


def _entries(key: str, node: Node, lines: Sequence[MagicLine], file: str) -> Iterator[Entry]:
    """Yield what a key stands for: a text, or each text of a list."""
    for item in node.value if node.id == "sequence" else [node]:
        line = lines[item.start_mark.line]
        if item.id != "scalar":
            raise FormError(f"{key}: expected a text or a list of texts", line.number)
        # Nothing at all is an option without a value.
        value = "" if item.tag.endswith(":null") else item.value
        yield Entry(key, value, Where(file, line.number), line.source)
