"""A user and a password in a hub's address, as mirrors behind a gateway want them."""

from __future__ import annotations

import base64

import pytest

from internlm_zoo.errors import NetworkError
from tests.world import ENDPOINTS, FILES, World, content_below

PASSWORD = "open sesame@home"
PROOF = "Basic " + base64.b64encode(f"ali:{PASSWORD}".encode()).decode()


def with_password(url: str) -> str:
    return url.replace("://", "://ali:open%20sesame%40home@")


@pytest.mark.parametrize(
    "name", ["openxlab", *(pytest.param(name, marks=pytest.mark.slow) for name in list(ENDPOINTS)[:3])]
)
def test_the_password_goes_along_for_listings_and_bytes(world: World, name: str) -> None:
    world.environ[ENDPOINTS[name]] = with_password(world.hubs[name].url)
    assert content_below(world.download(source=name, format="hf").path) == FILES
    assert {seen.headers.get("Authorization") for seen in world.hubs[name].requests} == {PROOF}


@pytest.mark.parametrize("path", ["*.json", "/api/*"], ids=["bytes", "listing"])
@pytest.mark.parametrize("to", ["other-port", "other-host"])
def test_the_password_stays_at_its_own_door(world: World, path: str, to: str) -> None:
    hub = world.hubs["huggingface"]
    world.environ["HF_ENDPOINT"] = with_password(hub.url)
    world.fault("redirect", path, "huggingface", to=to)
    world.download("config.json", source="huggingface", format="hf")
    home = hub.url.partition("://")[2]
    elsewhere = [seen for seen in hub.requests if seen.host != home]
    assert elsewhere and not any("Authorization" in seen.headers for seen in elsewhere)


def test_the_password_is_never_shown(world: World) -> None:
    world.environ["HF_ENDPOINT"] = with_password("http://127.0.0.1:9")
    with pytest.raises(NetworkError) as caught:
        world.download(source="huggingface", format="hf")
    said = f"{caught.value.what} {caught.value.where} {caught.value.fix} {caught.value!r}"
    assert "127.0.0.1:9" in said
    assert not any(word in said for word in ("sesame", PROOF.split()[1]))
