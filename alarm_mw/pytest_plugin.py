"""The pytest plugin: the fixture ``alarms``, the marker ``alarms`` and the ini option ``alarm_mw_config``.

pytest loads it wherever this package is installed, so it imports nothing else until a test uses the fixture.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from alarm_mw.testing import Alarms

_MARKER = (
    "alarms(config=None, *, alarms=(), log_alarms=(), not_log_alarms=(), alarm_freq=None, alarm_msg_size=None, "
    "alarm_rate=None): the configuration of the fixture `alarms`, as in alarm_mw.init()"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the ini option."""
    parser.addini("alarm_mw_config", "The TOML or uWSGI ini file whose alarms the fixture `alarms` has.", type="string")


def pytest_configure(config: pytest.Config) -> None:
    """Offer the marker."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture
def alarms(request: pytest.FixtureRequest) -> Iterator[Alarms]:
    """Provide what the application fires: ``alarms.fired("jabber", match="upload")``. Nothing is delivered."""
    from alarm_mw.model.errors import ConfigError  # noqa: PLC0415  # see above

    made: Alarms | str
    try:
        made = _make(request)
    except ConfigError as error:
        made = str(error)
    if isinstance(made, str):  # outside of the exception, which pytest would show as well
        pytest.fail(made, pytrace=False)
    with made:
        yield made


def _make(request: pytest.FixtureRequest) -> Alarms | str:
    """Return the alarms that the test asks for, or what is wrong with how it asks."""
    from alarm_mw.testing import Alarms  # noqa: PLC0415  # see above

    marker = request.node.get_closest_marker("alarms")
    if marker is not None:
        try:
            inspect.signature(Alarms).bind(*marker.args, **marker.kwargs)
        except TypeError as error:
            return f"the marker 'alarms': {error}; expected {_MARKER}"
        return Alarms(*marker.args, **marker.kwargs)
    if file := request.config.getini("alarm_mw_config"):
        return Alarms(request.config.rootpath / file)
    return Alarms()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Show, below a failed test, what it fired."""
    made = getattr(item, "funcargs", {}).get("alarms")
    is_ours = type(made).__module__ == "alarm_mw.testing.alarms"  # another plugin's fixture may have that name
    if made is not None and is_ours and call.when == "call" and call.excinfo is not None:
        item.add_report_section("call", "alarms", made.summary())
