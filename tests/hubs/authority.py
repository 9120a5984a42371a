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
        self._issued = authority.issue_cert(*names)
        self._issued.configure_cert(self.server)

    def files(self, folder: Path) -> tuple[Path, Path]:
        """The hubs' certificate and its key, as PEM."""
        certificate, key = folder / "certificate.pem", folder / "key.pem"
        self._issued.cert_chain_pems[0].write_to_path(certificate)
        self._issued.private_key_pem.write_to_path(key)
        return certificate, key

    def together(self, folder: Path) -> Path:
        """The same in one file."""
        both = folder / "both.pem"
        self._issued.private_key_and_cert_chain_pem.write_to_path(both)
        return both
