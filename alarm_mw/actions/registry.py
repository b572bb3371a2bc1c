"""Finds an action by the name that the configuration uses."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from alarm_mw import actions
from alarm_mw.actions.keyvalue import did_you_mean
from alarm_mw.errors import OptionError
from alarm_mw.interfaces import Action

#: The group of entry points under which other packages offer actions.
GROUP = "alarm_mw.actions"

#: Modules of this package that serve actions and are none.
_HELPERS = frozenset(
    {
        "child",
        "http",
        "keyvalue",
        "mail",
        "printable",
        "recipients",
        "registry",
        "tls",
        "url",
        "xmpp_client",
        "xmpp_messages",
        "xmpp_session",
    }
)

#: What a class must have to be taken for an action.
_INTERFACE = ("Options", "concurrency", "from_uwsgi", "deliver", "__aenter__", "__aexit__")


def names() -> tuple[str, ...]:
    """Return the names of all actions, built in and installed, in alphabetical order."""
    return tuple(sorted({*_builtins(), *(point.name for point in entry_points(group=GROUP))}))


def find(name: str) -> type[Action]:
    """Return the action called `name`: a built-in, else the entry point of that name.

    Raises `OptionError` when there is none, when it cannot be imported, or when a package that it needs is missing.
    """
    if name in _builtins():
        action = _load(name, EntryPoint(name, f"{actions.__name__}.{name}:{name.title()}Action", GROUP))
    elif points := entry_points(group=GROUP, name=name):
        action = _load(name, next(iter(points)))
    else:
        raise OptionError(
            f"unknown alarm plugin {name!r}{did_you_mean(name, names())}; there are: {', '.join(names())}"
        )
    _check_packages(name, getattr(action, "requires", ()))
    return action


def _builtins() -> frozenset[str]:
    return frozenset(module.name for module in pkgutil.iter_modules(actions.__path__)) - _HELPERS


def _load(name: str, point: EntryPoint) -> type[Action]:
    try:
        action = point.load()
    except ModuleNotFoundError as error:
        raise OptionError(_missing(name, error.name or str(error))) from error
    except (ImportError, AttributeError) as error:
        raise OptionError(f"alarm plugin {name!r} cannot be loaded from {point.value}: {error}") from error
    if absent := [part for part in _INTERFACE if not hasattr(action, part)]:
        raise OptionError(f"alarm plugin {name!r} is no action: {point.value} has no {', '.join(absent)}")
    return cast("type[Action]", action)


def _check_packages(name: str, packages: Iterable[str]) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise OptionError(_missing(name, package))


def _missing(name: str, package: str) -> str:
    return f"alarm plugin {name!r} needs the package {package!r}, which is not installed: pip install {package}"
