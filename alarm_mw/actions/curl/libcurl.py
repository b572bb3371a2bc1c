"""Transfers of the action `curl` by libcurl: FTP, SFTP, MQTT and the other protocols of the installed version.

It needs the package `pycurl`: import this module where a client is made, not at the top.
"""

from __future__ import annotations

import asyncio
import io
import ssl
import threading
from pathlib import Path

import certifi
import pycurl

from alarm_mw.actions.curl.options import CurlOptions
from alarm_mw.model.errors import ActionError
from alarm_mw.model.interfaces import ActionContext
from alarm_mw.model.masking import quoted, secrets_in
from alarm_mw.model.types import Firing
from alarm_mw.texts import uploaded

#: Errors of libcurl that a retry cannot fix.
_FINAL = frozenset(
    {
        pycurl.E_UNSUPPORTED_PROTOCOL,
        pycurl.E_URL_MALFORMAT,
        pycurl.E_NOT_BUILT_IN,
        pycurl.E_REMOTE_ACCESS_DENIED,
        pycurl.E_LOGIN_DENIED,
        pycurl.E_BAD_FUNCTION_ARGUMENT,
        pycurl.E_REMOTE_FILE_NOT_FOUND,
    }
)

#: The lowest permanent error of a server (RFC 959, section 4.2.1).
_PERMANENT = 500

#: They publish what other schemes upload.
_PUBLISHES = frozenset({"mqtt", "mqtts"})

#: They ask for the server's key, which is checked against what the user has accepted.
_SSH = frozenset({"sftp", "scp"})


class LibcurlSender:
    """Uploads each firing over a connection of its own, in a thread."""

    def __init__(self, options: CurlOptions, head: bytes, context: ActionContext) -> None:
        self._options = options
        self._context = context
        self._head = head

    async def send(self, firing: Firing) -> None:
        """Upload the exact bytes of the message. Raises `ActionError`."""
        given_up = threading.Event()
        try:
            await asyncio.to_thread(self._transfer, self._head + uploaded(firing, self._context), given_up)
        finally:
            given_up.set()

    async def close(self) -> None:
        """Nothing is kept open."""

    def _transfer(self, body: bytes, given_up: threading.Event) -> None:
        curl = pycurl.Curl()
        try:
            _set_up(curl, self._options, given_up)
            _set_body(curl, self._options.target.scheme, body)
            curl.perform()
        except pycurl.error as error:
            raise self._explained(*error.args, status=curl.getinfo(pycurl.RESPONSE_CODE)) from None
        finally:
            curl.close()

    def _explained(self, code: int, text: str, *, status: int) -> ActionError:
        """Return the error of libcurl, or of the server with its `status`; 5xx is permanent, as in FTP."""
        target = self._options.target
        password = self._options.auth[1] if self._options.auth else ""
        is_final = code in _FINAL or (code == pycurl.E_UPLOAD_FAILED and status >= _PERMANENT)
        said = quoted(text, secrets_in(password, target.resource))
        return ActionError(f"{target.origin}: {said}", retry=not is_final)


def _set_up(curl: pycurl.Curl, options: CurlOptions, given_up: threading.Event) -> None:
    target = options.target
    curl.setopt(pycurl.URL, target.url)
    curl.setopt(pycurl.NOSIGNAL, 1)
    curl.setopt(pycurl.TIMEOUT_MS, round(options.timeout * 1000))
    curl.setopt(pycurl.CONNECTTIMEOUT_MS, round(options.conn_timeout * 1000))
    curl.setopt(pycurl.WRITEFUNCTION, _ignore)
    curl.setopt(pycurl.NOPROGRESS, 0)
    curl.setopt(pycurl.XFERINFOFUNCTION, lambda *_: given_up.is_set())
    if options.auth:
        curl.setopt(pycurl.USERNAME, options.auth[0])
        curl.setopt(pycurl.PASSWORD, options.auth[1])
    _set_trust(curl, options)


def _set_trust(curl: pycurl.Curl, options: CurlOptions) -> None:
    curl.setopt(pycurl.USE_SSL, pycurl.USESSL_ALL if options.ssl else pycurl.USESSL_NONE)
    curl.setopt(pycurl.CAINFO, options.ca_file or ssl.get_default_verify_paths().cafile or certifi.where())
    if options.ssl_insecure:
        curl.setopt(pycurl.SSL_VERIFYPEER, 0)
        curl.setopt(pycurl.SSL_VERIFYHOST, 0)
    elif options.target.scheme in _SSH:
        curl.setopt(pycurl.SSH_KNOWNHOSTS, str(Path("~/.ssh/known_hosts").expanduser()))


def _set_body(curl: pycurl.Curl, scheme: str, body: bytes) -> None:
    if scheme in _PUBLISHES:
        curl.setopt(pycurl.POSTFIELDS, body)
        return
    curl.setopt(pycurl.UPLOAD, 1)
    curl.setopt(pycurl.INFILESIZE_LARGE, len(body))
    curl.setopt(pycurl.READDATA, io.BytesIO(body))


def _ignore(_: bytes) -> None:
    """Discard what a server sends, which is irrelevant to the delivery."""
