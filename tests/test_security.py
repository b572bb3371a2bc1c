"""What SECURITY.md says is so."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "alarm_mw").rglob("*.py"))

#: What makes objects, or runs code, of bytes.
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "shelve", "marshal", "jsonpickle", "joblib"}
FORBIDDEN_CALLS = {"eval", "exec", "os.system", "os.popen", "tempfile.mktemp", "asyncio.create_subprocess_shell"}

#: The one place where a shell runs: uWSGI's ``cmd:`` is a line of it. The message is its input, and in no argument.
SHELL = ROOT / "alarm_mw/actions/cmd/child.py"

#: The one place where YAML is read: uWSGI's configuration may be in it. It is read as texts, and makes no objects.
YAML = ROOT / "alarm_mw/config/uwsgi/forms.py"


def imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def makes_objects_of_yaml(call: str) -> bool:
    """Return whether a call of PyYAML does more than to find texts in a text."""
    return call.startswith("yaml.") and call != "yaml.compose"


def dangers(source: str) -> list[str]:
    """Return what a module does that none of ours may do."""
    tree = ast.parse(source)
    found = [*(imported(tree) & FORBIDDEN_MODULES)]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "yaml":
            found.append("from yaml import …")
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            found += [name] if name in FORBIDDEN_CALLS or makes_objects_of_yaml(name) else []
            found += [f"{name}(shell=…)" for keyword in node.keywords if keyword.arg == "shell"]
    return found


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_makes_code_of_data(source: Path) -> None:
    """Nothing that arrives is unpickled, evaluated or put into a shell's command."""
    assert dangers(source.read_text()) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from marshal import loads",
        "eval('1')",
        "import os\nos.system('x')",
        "run(a, shell=True)",
        "import yaml\nyaml.safe_load('a')",
        "from yaml import load",
    ],
)
def test_each_danger_is_seen(text: str) -> None:
    """The test above looks at something."""
    assert dangers(text)


def test_one_module_runs_a_shell() -> None:
    """No other names it."""
    assert [path for path in SOURCES if '"/bin/sh"' in path.read_text()] == [SHELL]


def test_one_module_reads_yaml() -> None:
    """No other imports it."""
    assert [path for path in SOURCES if "yaml" in imported(ast.parse(path.read_text()))] == [YAML]


def test_the_tests_that_are_named_exist() -> None:
    """Each defence names the file that tries it."""
    named = re.findall(r"`(tests/[\w/]+\.py)`", (ROOT / "SECURITY.md").read_text())
    assert len(named) > 8
    assert [name for name in named if not (ROOT / name).is_file()] == []
