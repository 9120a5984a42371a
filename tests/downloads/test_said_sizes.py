"""Sizes that a hub only says: what one of them exaggerates costs neither the disk nor the next hub."""

from __future__ import annotations

import pytest

from internlm_zoo.errors import NoSpaceError
from tests.net.raw import Raw, answering, serving_raw
from tests.world import WEIGHTS, World

# More than the disk has, and less than any listing may say of one file.
TOO_MUCH = 7 * 10**12


@pytest.mark.parametrize("status", [b"200 OK", b"206 Partial Content"])
def test_an_answer_that_says_more_than_the_disk_has_is_left_for_the_next_hub(
    world: World, status: bytes
) -> None:
    """Of a hub whose listings say no sizes."""
    range = f"Content-Range: bytes 0-{TOO_MUCH - 1}/{TOO_MUCH}".encode()
    headers = [f"Content-Length: {TOO_MUCH}".encode(), *([range] if b"206" in status else [])]
    world.environ["INTERNLM_ZOO_SOURCES"] = "openxlab,huggingface"
    with serving_raw(Raw(answering(status, *headers))) as server:
        world.hubs["openxlab"].fault("redirect", to=f"{server.url}/bytes")
        done = world.download(WEIGHTS, format="hf")
        assert done.hub == "huggingface" and server.hits
        with pytest.raises(NoSpaceError, match="more bytes, and the disk has"):
            world.download("tokenizer.model", format="hf", source="openxlab")
    assert not list((world.home / "partial").glob("*.part"))
