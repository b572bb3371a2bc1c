"""``alarm-mw web``: users for the configuration. Its links are tried with a real server, where the page is."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from alarm_mw.cli.main import main
from alarm_mw.config.load import load
from alarm_mw.config.sources import Sources
from alarm_mw.web.security.passwords import is_password


def test_a_user_for_the_configuration(tmp_path: Path) -> None:
    """What is printed can be written into the file as it is, and has a hash in place of the password."""
    done = CliRunner().invoke(main, ["web", "--add-user", "kim", "--read"], input="correct horse\ncorrect horse\n")
    assert done.exit_code == 0
    file = tmp_path / "alarm-mw.toml"
    file.write_text(done.stdout[done.stdout.index("[[web.users]]") :])
    (user,) = load(Sources.of_files([str(file)]), {}).web.users
    assert (user.name, user.role) == ("kim", "read")
    assert is_password("correct horse", user.password)
    assert not is_password("wrong horse", user.password)


def test_a_name_that_is_none() -> None:
    """It is refused, with what is expected."""
    done = CliRunner().invoke(main, ["web", "--add-user", "k m"], input="a\na\n")
    assert done.exit_code == 2
    assert "alarm-mw: name: expected letters, digits and any of ._@+-, got 'k m'" in done.output


def test_without_a_server(tmp_path: Path) -> None:
    """The exit status is 1, and the error says where it was looked for."""
    done = CliRunner().invoke(main, ["web", "--state-dir", str(tmp_path)])
    assert done.exit_code == 1
    assert "no master answers" in done.output
