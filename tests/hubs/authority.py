"""A certificate authority that nobody trusts unless told to, and what a loopback hub needs of it."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme


class Authority:
    """pem: its own certificate, for SSL_CERT_FILE. server: a context for hubs on this machine."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.pem = folder / "authority.pem"
        authority.cert_pem.write_to_path(self.pem)
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1", "127.0.0.2", "localhost", "hub.invalid").configure_cert(self.server)
