"""Alarms of the action `hub`, tried from the command line, with a real Redis."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from fleet_members import event, machines
from redis_server import RedisServer

from alarm_mw.cli.main import main
from alarm_mw.cli.trial.leaving import to_hub
from alarm_mw.config.settings import Settings
from alarm_mw.config.tables.fleet import FleetOptions
from alarm_mw.master.runtime import membership
from alarm_mw.model.errors import ActionError


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="alarm-mw-redis-") as directory:  # a short path, for a socket
        server = RedisServer(Path(directory))
        server.start()
        try:
            yield server
        finally:
            server.stop()


async def leave(settings: Settings) -> None:
    await to_hub(settings)(event())


def test_each_trial_reaches_the_hub(redis: RedisServer) -> None:
    """A message arrives in the hub's outbox without another member of the fleet, in the next trial as well."""
    settings = Settings(fleet=FleetOptions(url=redis.url, name="shop", machine="web-1"))

    async def scene() -> None:
        async with machines(redis.url, "shop", "hub", is_hub=True) as (hub,):
            await hub.member.link.is_connected.wait()
            firing = event()
            for _ in range(2):
                await to_hub(settings)(firing)
            assert [each.message for each in hub.local.sent] == [firing.message] * 2
            overview = await hub.member.overview()
            assert [member.machine for member in overview.members] == ["hub"]

    asyncio.run(scene())


def test_a_trial_without_a_hub_says_so(redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no hub takes in time is named, with the fleet, and is not left for a hub that comes later."""
    monkeypatch.setattr(membership, "TAKEN_WITHIN", 0.2)
    file = tmp_path / "a.toml"
    file.write_text(
        '[alarms.a]\naction = "hub"\ndelivery = { give_up_after = 0.1 }\n'
        f'[fleet]\nurl = "{redis.url}"\nname = "shop"\n'
    )
    result = CliRunner().invoke(main, ["test", "--config", str(file), "a"])
    assert result.exit_code == 1
    assert "no hub of fleet shop has taken it within 0.2 seconds: is `alarm-mw hub` running?" in result.stderr
    assert redis.cli("HLEN", "{alarm_mw:shop}:hub").strip() == "0"


def test_a_redis_that_is_away_is_named(tmp_path: Path) -> None:
    """Without Redis, the failure says that the fleet cannot be reached."""
    settings = Settings(fleet=FleetOptions(url=f"unix://{tmp_path}/none.sock"))
    with pytest.raises(ActionError, match="the fleet cannot be reached"):
        asyncio.run(leave(settings))


def test_without_a_fleet_the_remedy_is_named() -> None:
    """Where no fleet is configured, that is what the failure asks for."""
    with pytest.raises(ActionError, match=r"configure \[fleet\]"):
        asyncio.run(leave(Settings()))
