"""Two actions that are only options, and the reading of a configuration that a test writes down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import msgspec
import pytest

from alarm_mw.config.load import examine
from alarm_mw.config.parts import FindAction
from alarm_mw.config.report import Examined
from alarm_mw.config.sources import Sources
from alarm_mw.model.errors import OptionError
from alarm_mw.model.interfaces import SECRET, Action, ActionContext, PluginOptions
from alarm_mw.model.keyvalue import build, split
from alarm_mw.model.types import Firing

#: Reads TOML, ini and flags, in this order.
Examine = Callable[..., Examined]


class TalkOptions(PluginOptions, frozen=True, kw_only=True):
    jid: str
    password: Annotated[str, msgspec.Meta(min_length=4), SECRET] = ""
    tone: Annotated[Literal["low", "high"], SECRET] = "low"
    to: tuple[str, ...] = ()
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 5222
    tls: bool = True

    def __post_init__(self) -> None:
        if not self.tls and self.password:
            raise ValueError(f"the password {self.password} needs tls")


class TalkAction:
    Options: ClassVar[type[PluginOptions]] = TalkOptions
    concurrency: ClassVar[int] = 1

    def __init__(self, options: PluginOptions, context: ActionContext) -> None:
        self.options = options

    @classmethod
    def from_uwsgi(cls, args: str) -> PluginOptions:
        return build(TalkOptions, dict(split(args)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

    def deliver(self, firing: Firing) -> None:
        pass


class NoteOptions(PluginOptions, frozen=True, kw_only=True):
    text: str = ""


class NoteAction(TalkAction):
    Options: ClassVar[type[PluginOptions]] = NoteOptions

    @classmethod
    def from_uwsgi(cls, args: str) -> PluginOptions:
        return NoteOptions(text=args)


@pytest.fixture(scope="session")
def find_action() -> FindAction:
    actions: Mapping[str, type[Action]] = {"talk": TalkAction, "note": NoteAction}

    def find(name: str) -> type[Action]:
        if name not in actions:
            raise OptionError(f"unknown alarm plugin {name!r}")
        return actions[name]

    return find


@pytest.fixture
def examined(tmp_path: Path, find_action: FindAction, monkeypatch: pytest.MonkeyPatch) -> Examine:
    """Return a function that reads what the test has written, from files in the working directory."""
    monkeypatch.chdir(tmp_path)

    def read(
        toml: str | None = None,
        ini: str | None = None,
        flags: tuple[tuple[str, str], ...] = (),
        environ: Mapping[str, str] | None = None,
        *,
        is_strict: bool = True,
    ) -> Examined:
        if toml is not None:
            Path("a.toml").write_text(toml, encoding="utf-8")
        if ini is not None:
            Path("a.ini").write_text(ini, encoding="utf-8")
        toml_files = () if toml is None else ("a.toml",)
        ini_files = () if ini is None else ("a.ini",)
        sources = Sources(toml_files, ini_files, flags, is_strict)
        return examine(sources, environ or {}, find_action=find_action)

    return read
