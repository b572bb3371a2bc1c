"""``alarm-mw web``: a login URL for the page of a server, one page of all servers, and users for configurations."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import webbrowser

import click

from alarm_mw.cli.options import BAD_CONFIG
from alarm_mw.cli.servers import NO_MASTER, all_running, find, needing_answers, placed
from alarm_mw.transports.control import ask_patiently

#: Variables of the environment that show that there is a screen for a browser.
_SCREENS = ("DISPLAY", "WAYLAND_DISPLAY")


@click.command()
@click.option("--read", "only_read", is_flag=True, help="Log in to look only, without the right to change anything.")
@click.option("--add-user", metavar="NAME", help="Ask for a password, and print the user for the configuration.")
@click.option(
    "--all", "is_all", is_flag=True, help="Serve one page of all running servers with a default state directory."
)
@click.option(
    "--listen",
    default="",
    metavar="HOST:PORT",
    help="Where --all serves it. [default: a free port of 127.0.0.1]",
)
@placed
def web(  # noqa: PLR0917  # the command line's options
    only_read: bool, add_user: str | None, is_all: bool, listen: str, state_dir: str | None, socket_path: str | None
) -> None:
    """Print a URL that logs you in to the page of a running server.

    The URL works once, within a minute. It is opened in a browser if there is one. With --all, this command serves a
    page of all servers of this user, also of those that have no page of their own, until Ctrl-C; Enter prints another
    URL. Exit status 1 if no server answers or its configuration has no `[web] listen`.
    """
    role = "read" if only_read else "act"
    if add_user is not None:
        _print_user(add_user, role)
        return
    if is_all:
        _serve_all(listen, role)
        return
    if listen:
        raise click.UsageError("--listen is for --all; a server's own page is at `[web] listen` of its configuration")
    with needing_answers():
        url = _login_url(find(state_dir, socket_path), role)
    if not url:
        click.echo(
            'alarm-mw: this server has no page: write listen = "127.0.0.1:8420" into the table [web] of its '
            "configuration, and run `alarm-mw reload`",
            err=True,
        )
        sys.exit(NO_MASTER)
    _offer(url)


def _offer(url: str) -> None:
    """Print a URL, and open it in a browser if there is one."""
    click.echo(url)
    if sys.stdout.isatty() and any(name in os.environ for name in _SCREENS):
        webbrowser.open(url)


def _login_url(socket: str, role: str) -> str:
    return str(ask_patiently(socket, f"/login-url?role={role}", method="POST")["url"])


def _serve_all(listen: str, role: str) -> None:
    """Serve one page of all servers until the command is ended."""
    from alarm_mw.cli.web.serving import serving  # noqa: PLC0415  # loads the web framework
    from alarm_mw.config.tables.web import WebOptions, is_exposed  # noqa: PLC0415  # as above

    with needing_answers():
        all_running()
    try:
        if is_exposed(WebOptions(listen=listen)):
            click.echo(
                f"alarm-mw: warning: other machines reach the page at {listen} by plain HTTP, so all on the way can "
                "read it: --listen 127.0.0.1:PORT and a tunnel by ssh, or a proxy with TLS, avoid that",
                err=True,
            )
        with serving(listen, role) as login_url:
            _offer(login_url())
            is_terminal = sys.stdin.isatty()
            if is_terminal:
                click.echo("Enter prints another URL, Ctrl-C ends it.", err=True)
            with contextlib.suppress(KeyboardInterrupt):
                if is_terminal:
                    for _ in sys.stdin:
                        click.echo(login_url())
                threading.Event().wait()
    except (OSError, ValueError) as error:
        where = f" at {listen}" if listen else ""
        click.echo(f"alarm-mw: the page cannot be served{where}: {error}", err=True)
        sys.exit(BAD_CONFIG)


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
