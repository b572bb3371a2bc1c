"""``alarm-mw web``: a login URL for the page of a running server, and users for its configuration."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path
from typing import NoReturn

import click

from alarm_mw.cli.servers import NO_MASTER, all_running, find, names_of, needing_answers, placed
from alarm_mw.transports.control import ask_patiently

#: Variables of the environment that show that there is a screen for a browser.
_SCREENS = ("DISPLAY", "WAYLAND_DISPLAY")


@click.command()
@click.option("--read", "only_read", is_flag=True, help="Log in to look only, without the right to change anything.")
@click.option("--add-user", metavar="NAME", help="Ask for a password, and print the user for the configuration.")
@click.option("--all", "is_all", is_flag=True, help="All running servers with a default state directory.")
@placed
def web(only_read: bool, add_user: str | None, is_all: bool, state_dir: str | None, socket_path: str | None) -> None:
    """Print a URL that logs you in to the page of a running server; with --all, one for each server, by its name.

    The URL works once, within a minute. It is opened in a browser if there is one. Exit status 1 if no server answers
    or its configuration has no `[web] listen`.
    """
    role = "read" if only_read else "act"
    if add_user is not None:
        _print_user(add_user, role)
        return
    if is_all:
        _print_all(role)
    with needing_answers():
        url = _login_url(find(state_dir, socket_path), role)
    if not url:
        click.echo(
            'alarm-mw: this server has no page: write listen = "127.0.0.1:8420" into the table [web] of its '
            "configuration, and run `alarm-mw reload`",
            err=True,
        )
        sys.exit(NO_MASTER)
    click.echo(url)
    if sys.stdout.isatty() and any(name in os.environ for name in _SCREENS):
        webbrowser.open(url)


def _login_url(socket: str, role: str) -> str:
    return str(ask_patiently(socket, f"/login-url?role={role}", method="POST")["url"])


def _print_all(role: str) -> NoReturn:
    """Print the URLs of all servers, by their names, and exit."""
    with needing_answers():
        sockets = [Path(socket) for socket in all_running()]
        names = names_of(socket.parent for socket in sockets)
        urls = {names[socket.parent]: _login_url(str(socket), role) for socket in sockets}
    longest = max(map(len, urls))
    for name, url in urls.items():
        click.echo(f"{name:{longest}}  {url or 'no page: its configuration has no [web] listen'}")
    sys.exit(0 if any(urls.values()) else NO_MASTER)


def _print_user(name: str, role: str) -> None:
    from alarm_mw.config.tables.web import WebUser  # noqa: PLC0415  # for this alone
    from alarm_mw.web.security.passwords import hash_password  # noqa: PLC0415  # as above

    hashed = hash_password(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    try:
        WebUser(name=name, password=hashed, role="read" if role == "read" else "act")
    except ValueError as error:
        click.echo(f"alarm-mw: {error}", err=True)
        sys.exit(2)
    click.echo(f'[[web.users]]\nname = "{name}"\npassword = "{hashed}"\nrole = "{role}"')
