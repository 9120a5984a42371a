"""Who may read: optional tokens, and the signatures that OpenXLab's way in and its download URLs need.

One token serves all four hubs: Hugging Face, ModelScope and Modelers clients send it as a bearer token
(ModelScope's as a cookie too), OpenXLab clients hold it as their secret key beside an access key of any name.
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

_NONCE_SECONDS = 120


@dataclass(frozen=True)
class Authenticator:
    """tokens: the ones that open it; none: it stands open. secret: signs what this server hands out."""

    tokens: frozenset[str] = field(default_factory=frozenset, repr=False)
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def admits(self, token: str | None) -> bool:
        if not self.tokens:
            return True
        return any(hmac.compare_digest((token or "").encode(), known.encode()) for known in self.tokens)

    def sign(self, *parts: str) -> str:
        """A signature over these words that only this server can make, in hex."""
        return self._mac("\0".join(parts)).hex()

    def signed(self, signature: str, *parts: str) -> bool:
        return hmac.compare_digest(signature.encode(), self.sign(*parts).encode())

    def nonce(self, access_key: str) -> str:
        """What an OpenXLab client must sign with its secret key; good for two to four minutes."""
        return self._nonce(access_key, _window())

    def proves(self, access_key: str, proof: str) -> bool:
        """Whether proof is base64(HMAC-SHA256(secret key, nonce)) for a current nonce of this access key."""
        if not self.tokens:
            return True
        nonces = [self._nonce(access_key, window) for window in (_window(), _window() - 1)]
        good = [_proof(token, nonce) for token in self.tokens for nonce in nonces]
        return any(hmac.compare_digest(proof.encode(), candidate.encode()) for candidate in good)

    def issue(self, purpose: str, access_key: str, expires: float) -> str:
        """A JSON web token (HS256). expires: seconds since the epoch."""
        claims = {"sub": access_key, "typ": purpose, "exp": int(expires)}
        header = {"alg": "HS256", "typ": "JWT"}
        body = ".".join(_b64(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
        return f"{body}.{_b64(self._mac(body))}"

    def accepts(self, purpose: str, token: str | None) -> bool:
        """Whether this server issued that token for this purpose and it has not expired."""
        if not self.tokens:
            return True
        body, _, signature = (token or "").rpartition(".")
        if not hmac.compare_digest(signature.encode(), _b64(self._mac(body)).encode()):
            return False
        encoded = body.partition(".")[2]
        claims = json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
        return bool(claims["typ"] == purpose and claims["exp"] > time.time())

    def _nonce(self, access_key: str, window: int) -> str:
        return self.sign("nonce", access_key, str(window))[:32]

    def _mac(self, body: str) -> bytes:
        return hmac.digest(self.secret, body.encode(), "sha256")


def bearer_of(headers: Mapping[str, str]) -> str | None:
    """The token that a request's headers bring, if they do."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _window() -> int:
    return int(time.time() // _NONCE_SECONDS)


def _proof(secret_key: str, nonce: str) -> str:
    return base64.b64encode(hmac.digest(secret_key.encode(), nonce.encode(), "sha256")).decode()


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
