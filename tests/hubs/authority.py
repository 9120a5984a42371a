"""A certificate authority that nobody trusts unless told to, and what a loopback hub needs of it."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme

# openmind_hub speaks to https hosts whose names end like this one's, and to no others.
MODELERS = "hub.modelers.cn"


class Authority:
    """pem: its own certificate, for SSL_CERT_FILE. server: a context for hubs on this machine."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.pem = folder / "authority.pem"
        authority.cert_pem.write_to_path(self.pem)
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        names = ("127.0.0.1", "127.0.0.2", "localhost", "hub.invalid", MODELERS)
        authority.issue_cert(*names).configure_cert(self.server)
