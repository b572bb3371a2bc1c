"""Finds plugins by the names that the configuration uses: the modules of a folder, and entry points."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Generic, TypeVar, cast

import msgspec

from alarm_mw.model.errors import MissingError, OptionError
from alarm_mw.model.keyvalue import did_you_mean

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

P = TypeVar("P")


@functools.cache  # because a configuration may have ten thousand alarms
def _modules(path: tuple[str, ...]) -> frozenset[str]:
    return frozenset(module.name for module in pkgutil.iter_modules(path))


def _imported(module: str, name: str) -> object:
    return getattr(importlib.import_module(module), name)


class Registry(msgspec.Struct, Generic[P], frozen=True):
    """The plugins of one kind. The module or package ``x`` of their package has the class ``X`` + kind."""

    #: The kind of plugin: ``action`` or ``monitor``.
    kind: str
    #: The noun in messages.
    noun: str
    #: The name of the package of those that ship, and of the group of entry points in which others offer theirs.
    package: str
    #: The package's folders.
    path: tuple[str, ...]
    #: Attributes that a plugin class must have.
    interface: tuple[str, ...]
    #: What is to be said of names that are none, and that people give: of services and protocols.
    hints: Mapping[str, str] = {}

    def names(self) -> tuple[str, ...]:
        """Return the names of all plugins, built in and installed, in alphabetical order."""
        return tuple(sorted({*self._builtins(), *(point.name for point in self._installed())}))

    def own_names(self) -> tuple[str, ...]:
        """Return the names of the plugins that are built in, in alphabetical order."""
        return tuple(sorted(self._builtins()))

    def find(self, name: str) -> type[P]:
        """Return the plugin called `name`: a built-in, else the entry point of that name.

        Raises `OptionError` when there is none or it cannot be imported, `MissingError` when a package that it needs is
        not installed.
        """
        if name in self._builtins():
            place = f"{self.package}.{name}", f"{name.title()}{self.kind.title()}"
            plugin = self._load(name, ":".join(place), functools.partial(_imported, *place))
        elif points := [point for point in self._installed() if point.name == name]:
            plugin = self._load(name, points[0].value, points[0].load)
        else:
            known = self.names()
            hint = self.hints.get(name.lower())
            meant = f": {hint}" if hint else did_you_mean(name, known)
            raise OptionError(f"unknown {self.noun} {name!r}{meant}; there are: {', '.join(known)}")
        self._check_packages(name, getattr(plugin, "requires", ()))
        return plugin

    def _builtins(self) -> frozenset[str]:
        return _modules(self.path)

    def _installed(self) -> Iterable[EntryPoint]:
        from importlib.metadata import entry_points  # noqa: PLC0415  # 13 ms, for those who have such plugins

        return entry_points(group=self.package)

    def _load(self, name: str, place: str, load: Callable[[], object]) -> type[P]:
        try:
            plugin = load()
        except ModuleNotFoundError as error:
            raise MissingError(self._missing(name, error.name or str(error))) from error
        except (Exception, SystemExit) as error:  # foreign code may raise anything
            text = f"{self.noun} {name!r} cannot be loaded from {place}: {type(error).__name__}: {error}"
            raise OptionError(text) from error
        if absent := [part for part in self.interface if not hasattr(plugin, part)]:
            raise OptionError(f"{self.noun} {name!r} is no {self.kind}: {place} has no {', '.join(absent)}")
        return cast("type[P]", plugin)

    def _check_packages(self, name: str, packages: Iterable[str]) -> None:
        for package in packages:
            if importlib.util.find_spec(package) is None:
                raise MissingError(self._missing(name, package))

    def _missing(self, name: str, package: str) -> str:
        return f"{self.noun} {name!r} needs the package {package!r}, which is not installed: pip install {package}"
