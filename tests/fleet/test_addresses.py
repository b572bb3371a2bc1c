"""How the URL of a fleet is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from fleet_members import deliver_all, incident, machines, sent
from redis_server import RedisServer
from waiting import until

from alarm_mw.fleet.addresses import address_of
from alarm_mw.fleet.redis_store import RedisStore
from alarm_mw.fleet.store import FleetUnreachableError


def documented_acl(fleet: str) -> list[str]:
    """Return what docs/fleet.md has an administrator enter."""
    page = (Path(__file__).parents[2] / "docs" / "fleet.md").read_text(encoding="utf-8")
    _, found, rest = page.partition("ACL SETUSER ")
    assert found
    assert "{alarm_mw:shop}" in rest
    return rest.partition("```")[0].replace("shop", fleet).split()


def test_sentinels_are_read_off_a_url() -> None:
    """Hosts, the service, the database, both passwords, and the file of authorities."""
    address = address_of(
        "rediss+sentinel://kim:secret@one:26380,[::1]:26381,two/alarms/3?sentinel_username=s&sentinel_password=p&ca_file=/ca"
    )
    assert address.sentinels == (("one", 26380), ("::1", 26381), ("two", 26379))
    assert (address.service, address.ca_file) == ("alarms", "/ca")
    assert (address.sentinel_username, address.sentinel_password) == ("s", "p")
    assert address.url == "rediss://kim:secret@/3"


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://host", "unknown scheme 'http'"),
        ("redis+sentinel://host:1", "the service is missing"),
        ("redis+sentinel://u:secret@ho st:x/alarms", "is no host and port of a sentinel"),
    ],
)
def test_a_wrong_url_is_explained(url: str, error: str) -> None:
    """What is wrong with a URL is said without its password."""
    with pytest.raises(ValueError, match=error) as raised:
        address_of(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("url", ["redis://u:secret@h:notaport", "redis://u:secret@h?nonsense=1"])
def test_what_redis_py_refuses_is_a_fleet_that_is_away(url: str) -> None:
    """A URL that redis-py cannot use is named without its password, as a Redis that cannot be reached."""

    async def scene() -> None:
        store = RedisStore(url, "shop")
        try:
            with pytest.raises(FleetUnreachableError, match=r"redis-py cannot use the url of \[fleet\]") as raised:
                await store.connect()
            assert "secret" not in str(raised.value)
        finally:
            await store.close()

    asyncio.run(scene())


def test_a_fleet_may_use_tls_and_a_user_with_few_rights(
    new_redis: Callable[..., RedisServer], new_fleet: str, authority: trustme.CA, tmp_path: Path
) -> None:
    """The certificate is checked against a file of authorities, and the documented ACL is all that a member needs."""
    certificate = authority.issue_cert("127.0.0.1")
    key, chain, ca = tmp_path / "key.pem", tmp_path / "chain.pem", tmp_path / "ca.pem"
    certificate.private_key_pem.write_to_path(key)
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(chain, append=True)
    authority.cert_pem.write_to_path(ca)
    server = new_redis()
    port = server.port + 1
    for option, value in (("tls-cert-file", chain), ("tls-key-file", key), ("tls-ca-cert-file", ca)):
        server.cli("CONFIG", "SET", option, str(value))
    server.cli("CONFIG", "SET", "tls-auth-clients", "no")
    assert server.cli("CONFIG", "SET", "tls-port", str(port)) == "OK\n"
    server.cli("ACL", "SETUSER", *documented_acl(new_fleet))

    async def scene() -> None:
        url = f"rediss://alarm-mw:secret@127.0.0.1:{port}/0?ca_file={ca}"
        async with machines(url, new_fleet, "a", "b") as found:
            await until(lambda: all(machine.member.link.state == "connected" for machine in found))
            await deliver_all(found)
            assert len(sent(found)) == 1
            assert (await found[0].member.overview()).incidents
            await deliver_all(found, incident)
            await deliver_all(found, lambda: incident("resolved"))
            history, record = await found[0].member.history(0.0), await found[1].member.incident("abc")
            assert history.incidents
            assert record is not None
            assert history.incidents[0].episode == record.episodes[0].episode
        async with machines(f"rediss://127.0.0.1:{port}", new_fleet, "c") as (c,):
            await until(lambda: "certificate verify failed" in c.member.link.error)

    asyncio.run(scene())
