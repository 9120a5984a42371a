"""What `serve` answers on the wire: ranges, conditions, revisions, mirrors, and nothing that lies outside."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
import urllib3

from internlm_zoo.errors import IntegrityError, NotFoundError, UsageError
from internlm_zoo.serve.app import build_app
from internlm_zoo.serve.background import Server, start
from tests.serve import content
from tests.serve.indexed import indexed, write_index
from tests.timing import PATIENCE

REPO = content.REPO
WEIGHTS = content.FILES["model.safetensors"]
SIZE = len(WEIGHTS)
PROTOCOLS = pytest.mark.parametrize("protocol", ["huggingface", "modelscope", "modelers", "openxlab"])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    content.write(root)
    return root


@pytest.fixture
def hub(root: Path) -> Iterator[Server]:
    with start(root) as server:
        yield server


def ask(method: str, url: str, **headers: str) -> urllib3.BaseHTTPResponse:
    return urllib3.request(
        method, url, headers=headers, retries=False, timeout=PATIENCE, decode_content=False
    )


def download_urls(hub: Server, repo: str, **more: object) -> dict[str, str]:
    org, name = repo.split("/")
    url = hub.url + "/api/v1/model-center/api/v1/cli/repository/getFileDownloadUrl"
    body = {"userName": org, "repositoryName": name, "modelNames": None, "filePaths": None, **more}
    answer = urllib3.request("POST", url, json=body, retries=False).json()["data"]["data"]
    return {path: file["url"] for path, file in {**answer["modelNames"], **answer["filePaths"]}.items()}


def url_of(hub: Server, protocol: str, path: str) -> str:
    if protocol == "huggingface":
        return f"{hub.url}/{REPO}/resolve/main/{quote(path)}"
    if protocol == "modelscope":
        return f"{hub.url}/api/v1/models/{REPO}/repo?Revision=master&FilePath={quote(path, safe='')}"
    if protocol == "modelers":
        return f"{hub.url}/api/v1/file/{REPO}/main/media/{quote(path)}"
    return download_urls(hub, REPO)[path]


@PROTOCOLS
@pytest.mark.parametrize("path", content.FILES)
def test_every_file_arrives_whole(hub: Server, protocol: str, path: str) -> None:
    answer = ask("GET", url_of(hub, protocol, path))
    assert (answer.status, answer.data) == (200, content.FILES[path])
    head = ask("HEAD", url_of(hub, protocol, path)) if protocol != "openxlab" else answer
    assert head.headers["Content-Length"] == str(len(content.FILES[path]))
    assert head.headers["ETag"] == answer.headers["ETag"]


@PROTOCOLS
@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-104", 5, 105),
        (f"bytes={SIZE - 3}-", SIZE - 3, SIZE),
        (f"bytes=10-{SIZE * 2}", 10, SIZE),
        ("bytes=-7", SIZE - 7, SIZE),
        (f"bytes=-{SIZE * 2}", 0, SIZE),
    ],
)
def test_ranges(hub: Server, protocol: str, asked: str, start: int, stop: int) -> None:
    answer = ask("GET", url_of(hub, protocol, "model.safetensors"), Range=asked)
    assert (answer.status, answer.data) == (206, WEIGHTS[start:stop])
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{SIZE}"


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", "bytes=-0"])
def test_a_range_beyond_the_end_is_refused(hub: Server, asked: str) -> None:
    answer = ask("GET", url_of(hub, "huggingface", "model.safetensors"), Range=asked)
    assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{SIZE}")


@PROTOCOLS
def test_no_range_of_an_empty_file_can_be_given(hub: Server, protocol: str) -> None:
    answer = ask("GET", url_of(hub, protocol, "empty.txt"), Range="bytes=0-")
    assert (answer.status, answer.headers["Content-Range"]) == (416, "bytes */0")


@pytest.mark.parametrize(
    "asked", ["bytes=5-2", "bytes=0-1,5-6", "lines=1-2", "bytes=-", "bytes=" + "9" * 5000 + "-"]
)
def test_a_range_that_makes_no_sense_is_ignored(hub: Server, asked: str) -> None:
    answer = ask("GET", url_of(hub, "huggingface", "config.json"), Range=asked)
    assert (answer.status, answer.data) == (200, content.FILES["config.json"])


@PROTOCOLS
def test_conditions(hub: Server, protocol: str) -> None:
    url = url_of(hub, protocol, "model.safetensors")
    first = ask("GET", url, Range="bytes=0-9")
    etag, date = first.headers["ETag"], first.headers["Last-Modified"]
    assert ask("GET", url, **{"If-None-Match": f'"other", {etag}'}).status == 304
    assert ask("GET", url, **{"If-None-Match": '"other"', "Range": "bytes=0-9"}).status == 206
    assert ask("GET", url, **{"If-Match": '"other"'}).status == 412
    assert ask("GET", url, **{"If-Range": etag, "Range": "bytes=0-9"}).status == 206
    for unsure in ('"other"', date):
        changed = ask("GET", url, **{"If-Range": unsure, "Range": "bytes=0-9"})
        assert (changed.status, changed.data) == (200, WEIGHTS)


def test_etags_are_the_digests_each_hub_publishes(hub: Server) -> None:
    sha256 = hashlib.sha256(WEIGHTS).hexdigest()
    config = content.FILES["config.json"]
    head = ask("HEAD", url_of(hub, "huggingface", "model.safetensors")).headers
    assert head["X-Linked-Etag"] == head["ETag"] == f'"{sha256}"'
    assert head["X-Linked-Size"] == str(SIZE) and len(head["X-Repo-Commit"]) == 40
    small = ask("HEAD", url_of(hub, "huggingface", "config.json")).headers
    git_sha1 = hashlib.sha1(b"blob %d\0" % len(config) + config).hexdigest()
    assert small["ETag"] == f'"{git_sha1}"' and "X-Linked-Etag" not in small
    assert (
        ask("HEAD", url_of(hub, "modelscope", "model.safetensors")).headers["X-Linked-ETag"] == f'"{sha256}"'
    )


def test_changed_content_is_another_revision(hub: Server, root: Path) -> None:
    def revision() -> str:
        return str(ask("GET", f"{hub.url}/api/models/{REPO}").json()["sha"])

    before = revision()
    assert revision() == before
    (root / REPO / "config.json").write_text('{"model_type": "other"}')
    after = revision()
    assert after != before
    assert (
        ask("GET", f"{hub.url}/{REPO}/resolve/{before}/config.json").headers["X-Error-Code"]
        == "RevisionNotFound"
    )
    assert ask("GET", f"{hub.url}/{REPO}/resolve/{after}/config.json").json() == {"model_type": "other"}


def test_a_compressed_neighbour_is_not_sent_instead(root: Path, hub: Server) -> None:
    (root / REPO / "config.json.gz").write_bytes(b"something else")
    answer = ask("GET", url_of(hub, "huggingface", "config.json"), **{"Accept-Encoding": "gzip, br"})
    assert answer.data == content.FILES["config.json"] and "Content-Encoding" not in answer.headers


def test_errors_are_what_each_client_understands(hub: Server) -> None:
    def hf(path: str) -> tuple[int, str]:
        answer = ask("GET", hub.url + path)
        return answer.status, answer.headers["X-Error-Code"]

    def modelers(path: str) -> tuple[int, str]:
        answer = ask("GET", f"{hub.url}/api/v1/file/{path}")
        return answer.status, answer.json()["code"]

    assert hf("/api/models/acme/nothing") == (404, "RepoNotFound")
    assert hf("/api/models/gpt2") == (404, "RepoNotFound")
    assert hf(f"/api/models/{REPO}/revision/v2") == (404, "RevisionNotFound")
    assert hf(f"/api/models/{REPO}/tree/main/nowhere") == (404, "EntryNotFound")
    assert hf(f"/{REPO}/resolve/main/nothing.bin") == (404, "EntryNotFound")
    missing = ask("GET", f"{hub.url}/api/v1/models/acme/nothing/repo/files?Recursive=True")
    assert missing.status == 404 and missing.json()["Success"] is False
    assert ask("GET", f"{hub.url}/api/v1/models/{REPO}/repo?Revision=master").status == 404
    assert modelers("acme/nothing") == (404, "repo_not_found")
    assert modelers(f"{REPO}?path=&ref=v2") == (404, "ref_not_exist")
    assert modelers(f"{REPO}?path=nowhere") == (404, "branch_or_path_not_found")
    assert modelers(f"{REPO}?path=config.json") == (404, "not_dir")
    assert modelers(f"{REPO}/info?path=notes") == (404, "not_file")
    assert modelers(f"{REPO}/main/media/notes") == (404, "branch_or_path_not_found")
    url = hub.url + "/api/v1/model-center/api/v1/cli/repository/getFileDownloadUrl"
    assert urllib3.request("POST", url, body=b"not json", retries=False).json()["data"]["msgCode"] == "10400"
    body = {"userName": "acme", "repositoryName": "nothing"}
    assert urllib3.request("POST", url, json=body, retries=False).json()["data"]["msgCode"] == "10404"


def test_listings_by_folder_and_by_page(hub: Server) -> None:
    tree = f"{hub.url}/api/models/{REPO}/tree/main"
    assert [node["path"] for node in ask("GET", tree + "/notes").json()] == ["notes/deep", "notes/读我.md"]
    seen, url = [], tree + "?recursive=true&limit=2"
    while url:
        page = ask("GET", url)
        assert len(page.json()) <= 2
        seen += [node["path"] for node in page.json() if node["type"] == "file"]
        link = page.headers.get("Link", "")
        url = link[1 : link.index(">")] if link else ""
    assert seen == sorted(content.FILES)
    files = ask("GET", f"{hub.url}/api/v1/models/{REPO}/repo/files?Root=notes&Recursive=False").json()
    assert [file["Path"] for file in files["Data"]["Files"]] == ["notes/deep", "notes/读我.md"]
    tree = ask("GET", f"{hub.url}/api/v1/file/{REPO}?path=notes").json()["data"]["tree"]
    assert [(node["path"], node["type"]) for node in tree] == [
        ("notes/deep", "dir"),
        ("notes/读我.md", "file"),
    ]


def test_openxlab_gives_urls_for_what_was_asked_and_no_others(hub: Server) -> None:
    assert set(download_urls(hub, REPO)) == set(content.FILES)
    assert set(download_urls(hub, REPO, filePaths=["config.json"])) == {"config.json"}
    ignored = download_urls(hub, REPO, ignore=["*.safetensors", "notes/*"])
    assert set(ignored) == {"config.json", "empty.txt", "tokenizer.model"}
    url = download_urls(hub, REPO)["config.json"]
    assert ask("GET", url.replace("config.json", "empty.txt")).status == 403
    assert ask("GET", url.replace("Expires=1", "Expires=2")).status == 403
    assert ask("GET", urlsplit(url)._replace(query="").geturl()).status == 403


def mirror_index(root: Path, revision: str, files: dict[str, bytes]) -> None:
    listed = [
        {"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for path, data in files.items()
    ]
    names = [("huggingface", "internlm/tiny-7b"), ("modelscope", "Shanghai_AI_Laboratory/tiny-7b")]
    write_index(root, indexed(REPO, listed, revision, names))


def test_a_mirror_answers_to_each_hubs_name_with_the_mirrored_revision(root: Path, hub: Server) -> None:
    files = {**content.FILES, ".gitattributes": b"*.bin filter=lfs\n"}
    content.write(root, files)
    mirror_index(root, "1" * 40, files)
    info = ask("GET", f"{hub.url}/api/models/internlm/tiny-7b").json()
    assert info["sha"] == "1" * 40 and info["id"] == "internlm/tiny-7b"
    assert {file["rfilename"] for file in info["siblings"]} == set(files)
    listing = "/api/v1/models/Shanghai_AI_Laboratory/tiny-7b/repo/files?Recursive=True"
    assert ask("GET", hub.url + listing).json()["Code"] == 200
    assert ask("GET", f"{hub.url}/api/models/Shanghai_AI_Laboratory/tiny-7b").status == 404
    assert ask("GET", f"{hub.url}/{REPO}/resolve/{'1' * 40}/config.json").status == 200


def test_a_mirror_that_changed_since_does_not_claim_the_mirrored_revision(root: Path, hub: Server) -> None:
    mirror_index(root, "1" * 40, content.FILES)
    (root / REPO / "config.json").write_text("{}")
    files = ask("GET", f"{hub.url}/api/v1/models/{REPO}/repo/files?Recursive=True").json()["Data"]["Files"]
    told = {file["Path"]: file for file in files}["config.json"]
    assert told["Sha256"] == hashlib.sha256(b"{}").hexdigest() and told["Revision"] != "1" * 40


def test_a_broken_mirror_index_is_refused_at_the_start(root: Path) -> None:
    (root / "mirror.json").write_text('{"schema": 1, "releases": [{}]}')
    with pytest.raises(IntegrityError, match=r"mirror\.json"):
        build_app(root)
    with pytest.raises(NotFoundError):
        build_app(root / "nowhere")


def raw(hub: Server, target: str) -> tuple[int, bytes]:
    """Send a request target exactly as it is, as no well-behaved client would."""
    place = urlsplit(hub.url)
    assert place.port is not None
    with socket.create_connection((place.hostname, place.port), timeout=PATIENCE) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while data := connection.recv(65536):
            answer += data
    return int(answer.split()[1]), answer


@pytest.mark.parametrize(
    "path",
    [
        "../../../secret.txt",
        "..%2f..%2f..%2fsecret.txt",
        "%2e%2e/%2e%2e/%2e%2e/secret.txt",
        "..\\..\\..\\secret.txt",
        "notes/../../../../secret.txt",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "link.txt",
        "linked/secret.txt",
        ".hidden",
        ".git/config",
        "config.json%00.txt",
        "notes",
        "notes/",
        "./config.json",
        "%252e%252e%252fsecret.txt",
    ],
)
def test_nothing_outside_the_listing_is_ever_sent(root: Path, hub: Server, path: str) -> None:
    (root.parent / "secret.txt").write_text("the secret")
    (root / REPO / ".hidden").write_text("the secret")
    (root / REPO / ".git").mkdir()
    (root / REPO / ".git" / "config").write_text("the secret")
    os.symlink(root.parent / "secret.txt", root / REPO / "link.txt")
    os.symlink(root.parent, root / REPO / "linked")
    for target in (
        f"/{REPO}/resolve/main/{path}",
        f"/api/v1/models/{REPO}/repo?Revision=master&FilePath={path}",
        f"/api/v1/file/{REPO}/main/media/{path}",
        f"/openxlab/download/{REPO}/{path}?Expires=9999999999&Signature=0",
    ):
        status, answer = raw(hub, target)
        assert status in (400, 403, 404), target
        assert b"the secret" not in answer and b"root:" not in answer
    listing = ask("GET", f"{hub.url}/api/models/{REPO}").json()["siblings"]
    assert {file["rfilename"] for file in listing} == set(content.FILES)


@pytest.mark.parametrize(
    "repo", ["../root", "%2e%2e/root", "..%2froot/acme", ".git/config", "acme/.hidden", "acme/out"]
)
def test_no_repository_is_found_outside_the_root(root: Path, hub: Server, repo: str) -> None:
    (root / "acme" / ".hidden").mkdir()
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "config.json").write_text("the secret")
    os.symlink(outside, root / "acme" / "out")
    for target in (
        f"/api/models/{repo}",
        f"/{repo}/resolve/main/config.json",
        f"/api/v1/models/{repo}/repo/files",
        f"/api/v1/file/{repo}?path=&ref=main",
        f"/api/v1/model/{repo}",
    ):
        status, answer = raw(hub, target)
        assert status == 404 and b"the secret" not in answer, target


def test_links_that_stay_inside_the_root_are_served(root: Path, hub: Server) -> None:
    blobs = root / ".blobs"
    blobs.mkdir()
    (blobs / "abc").write_bytes(b"shared")
    os.symlink(os.path.relpath(blobs / "abc", root / REPO), root / REPO / "shared.bin")
    assert ask("GET", f"{hub.url}/{REPO}/resolve/main/shared.bin").data == b"shared"


def test_nothing_can_be_written(hub: Server) -> None:
    for method in ("PUT", "POST", "DELETE", "PATCH"):
        assert ask(method, f"{hub.url}/{REPO}/resolve/main/config.json").status in (404, 405)


def test_tokens_guard_every_protocol_and_cookies_count(root: Path) -> None:
    with start(build_app(root, tokens={"right", "also"})) as hub:
        hf, ms = f"{hub.url}/api/models/{REPO}", f"{hub.url}/api/v1/models/{REPO}/repo/files"
        ml = f"{hub.url}/api/v1/file/{REPO}"
        for url in (hf, ms, ml, f"{ml}/main/media/config.json", f"{hub.url}/api/models/acme/nothing"):
            assert ask("GET", url).status == 401
            assert ask("GET", url, Authorization="Bearer wrong").status == 401
        for url in (hf, ms, ml):
            assert ask("GET", url, Authorization="Bearer also").status == 200
        assert ask("GET", ms, Cookie="m_session_id=right").status == 200
        assert ask("GET", hf, Cookie="m_session_id=right").status == 401
        url = hub.url + "/api/v1/model-center/api/v1/cli/repository/getFileDownloadUrl"
        body = {"userName": "acme", "repositoryName": REPO.split("/")[1]}
        for jwt in ("", "right", "a.b.c", "a.b.", "..", "Bearer right"):
            answer = urllib3.request("POST", url, json=body, headers={"Authorization": jwt}, retries=False)
            assert answer.json()["data"]["msgCode"] == "10401", jwt


def test_a_file_that_shrinks_while_it_is_sent_breaks_the_connection(root: Path, hub: Server) -> None:
    file = root / REPO / "model.safetensors"
    os.truncate(file, 1 << 26)  # more than the kernel will buffer
    url = url_of(hub, "huggingface", "model.safetensors")
    answer = urllib3.request("GET", url, retries=False, preload_content=False, timeout=PATIENCE)
    answer.read(1000)
    os.truncate(file, 2000)
    with pytest.raises(urllib3.exceptions.ProtocolError):
        while answer.read(65536):
            pass


def test_a_port_in_use_is_said_in_one_sentence(root: Path, hub: Server) -> None:
    with pytest.raises(UsageError, match="cannot listen on port"):
        start(root, port=int(hub.url.rpartition(":")[2]))
