"""Trusted certificates, the same for all actions."""

from __future__ import annotations

import ssl

import certifi

from alarm_mw.model.errors import OptionError


def client_context(*, ca_file: str = "", verify: bool = True) -> ssl.SSLContext:
    """Return a context that trusts `ca_file` (PEM), or what the system trusts, or with `verify` false any certificate.

    ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` apply, as everywhere in OpenSSL. Raises `OptionError`.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except OSError as error:
        raise OptionError(f"ca_file {ca_file!r} holds no certificates: {error.strerror}") from error
    if not ca_file and not context.cert_store_stats()["x509_ca"]:
        # The system may have a directory of certificates, which is not counted, or, as on macOS, nothing.
        context.load_verify_locations(certifi.where())
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
