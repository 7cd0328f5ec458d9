"""The tests' hub, asked by the real client in processes of its own, and by urllib."""

import hashlib
import http.client
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from hub_server import HOSTILE, Hub, cut, hang, no_range, redirect, resized, slow, status, wrong

CHUNK = 10 * 2**20  # what the client writes at a time: after a cut it resumes from the last whole chunk
BIG = os.urandom(CHUNK + 1000)
SMALL = os.urandom(1000)

PUBLISH = """
api = HfApi(token="hf_x")
out["me"] = api.whoami()["name"]
api.create_repo("o/new")
api.create_repo("o/new", exist_ok=True)
out["first"] = api.upload_folder(repo_id="o/new", folder_path=folder).oid
out["again"] = api.upload_folder(repo_id="o/new", folder_path=folder).oid
api.create_tag("o/new", tag="v1")
api.create_branch("o/new", branch="next/one")
out["second"] = api.upload_file(path_or_fileobj=b"{}", path_in_repo="config.json", repo_id="o/new").oid
api.delete_folder("sub", "o/new", revision="next/one")
refs = api.list_repo_refs("o/new")
out["refs"] = {ref.ref: ref.target_commit for ref in refs.branches + refs.tags}
info = api.model_info("o/new", revision="v1", files_metadata=True)
out["sizes"] = {each.rfilename: each.size for each in info.siblings}
out["sha256"] = [each.lfs.sha256 for each in info.siblings if each.lfs]
out["branch"] = api.list_repo_files("o/new", revision="next/one")
out["root"] = [each.path for each in api.list_repo_tree("o/new")]
out["paths"] = [(each.path, each.size) for each in api.get_paths_info("o/new", ["config.json", "nothing"])]
try_("tag", lambda: api.create_tag("o/new", tag="v1"))
add = CommitOperationAdd("x", b"x")
try_("stale", lambda: api.create_commit("o/new", [add], commit_message="x", parent_commit=out["first"]))
"""

FETCH = """
out["lfs"] = read(hf_hub_download("o/n", "sub/model.safetensors", revision="v1"))
out["old"] = read(hf_hub_download("o/n", "a.txt", revision=old))
out["plain name"] = read(hf_hub_download("plain", "a.txt"))
folder = Path(snapshot_download("o/n"))
out["snapshot"] = {str(path.relative_to(folder)): read(path) for path in folder.rglob("*") if path.is_file()}
try_("repo", lambda: hf_hub_download("o/none", "a.txt"))
try_("file", lambda: hf_hub_download("o/n", "none.txt"))
try_("revision", lambda: hf_hub_download("o/n", "a.txt", revision="none"))
try_("hostile", lambda: snapshot_download("o/hostile"))
"""

FAULTS = """
out["cut"] = read(hf_hub_download("o/n", "big.bin"))
try_("500", lambda: hf_hub_download("o/n", "small.bin"))
out["then"] = read(hf_hub_download("o/n", "small.bin"))
try_("gated", lambda: hf_hub_download("o/n", "gated.bin"))
try_("reset", lambda: hf_hub_download("o/n", "reset.bin"))
try_("short", lambda: hf_hub_download("o/n", "short.bin"))
out["wrong"] = read(hf_hub_download("o/n", "wrong.bin"))
"""


def client(hub, tmp_path, script, env=None, **names):
    """What the script put into `out`, run by a fresh interpreter that knows the names."""
    head = """
import hashlib, json, sys
from pathlib import Path
from huggingface_hub import *
out = {}
globals().update(json.loads(sys.argv[1]))
def read(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
def try_(name, call):
    try:
        out[name] = call()
    except Exception as error:
        out[name] = type(error).__name__
"""
    command = [sys.executable, "-c", head + script + "\nprint(json.dumps(out))", json.dumps(names)]
    env = hub.env(tmp_path / "hf", **(env or {}))
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def test_the_client_publishes(tmp_path):
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    files = {"README.md": b"---\nlicense: mit\n---\n", "config.json": b"[]", "sub/model.safetensors": SMALL}
    for path, data in files.items():
        (folder / path).write_bytes(data)
    with Hub() as hub:
        out = client(hub, tmp_path, PUBLISH, folder=str(folder))
        made = {path: data for path, data in hub.files("o/new", "v1").items() if path != ".gitattributes"}
        assert made == files
        assert hub.files("o/new")["config.json"] == b"{}"
        assert hub.files("o/new", out["second"]) == hub.files("o/new")
        assert hub.tags("o/new") == {"v1": out["first"]}
        sent = [request.path for request in hub.requests if request.method == "PUT"]
    assert sent == [f"/upload/{sha256(SMALL)}"]
    assert out["me"] == "tester"
    assert out["again"] == out["first"]
    assert out["refs"].keys() == {"refs/heads/main", "refs/heads/next/one", "refs/tags/v1"}
    assert (out["refs"]["refs/heads/main"], out["refs"]["refs/tags/v1"]) == (out["second"], out["first"])
    assert {path: out["sizes"][path] for path in files} == {path: len(data) for path, data in files.items()}
    assert out["sha256"] == [sha256(SMALL)]
    assert out["branch"] == [".gitattributes", "README.md", "config.json"]
    assert out["root"] == [".gitattributes", "README.md", "config.json", "sub"]
    assert out["paths"] == [["config.json", 2]]
    assert (out["tag"], out["stale"]) == ("HfHubHTTPError", "HfHubHTTPError")


def test_the_client_downloads_and_reuses_offline(tmp_path):
    with Hub() as hub:
        old = hub.commit("o/n", {"a.txt": b"old", "sub/model.safetensors": SMALL, "gone.txt": b"gone"})
        hub.tag("o/n", "v1")
        hub.commit("o/n", {"a.txt": b"new", "gone.txt": None})
        hub.commit("plain", {"a.txt": b"plain"})
        hub.commit("o/hostile", {"a.txt": b""})
        hub.extra_siblings("o/hostile", ["../../../../escaped"])
        out = client(hub, tmp_path, FETCH, old=old)
        assert out["lfs"] == sha256(SMALL)
        assert out["old"] == sha256(b"old")
        assert out["plain name"] == sha256(b"plain")
        assert out["snapshot"] == {"a.txt": sha256(b"new"), "sub/model.safetensors": sha256(SMALL)}
        assert (out["repo"], out["file"]) == ("RepositoryNotFoundError", "RemoteEntryNotFoundError")
        assert (out["revision"], out["hostile"]) == ("RevisionNotFoundError", "ValueError")
        hub.requests.clear()
        script = (
            'out["file"] = read(hf_hub_download("o/n", "a.txt")); try_("other", lambda: hf_hub_download("o/n", "b"))'
        )
        offline = client(hub, tmp_path, script, env={"HF_HUB_OFFLINE": "1"})
        assert offline == {"file": sha256(b"new"), "other": "LocalEntryNotFoundError"}
        assert hub.requests == []
    assert not list(tmp_path.rglob("escaped*"))


def test_the_client_meets_faults(tmp_path):
    with Hub() as hub:
        names = ("small", "gated", "reset", "short", "wrong")
        hub.commit("o/n", {"big.bin": BIG} | {f"{name}.bin": name.encode() + SMALL for name in names})
        hub.fault("big.bin", cut(CHUNK + 500), no_range())
        hub.fault("small.bin", status(500))
        hub.fault("gated.bin", status(403, {"X-Error-Code": "GatedRepo"}), method="HEAD")
        hub.fault("reset.bin", cut(500, reset=True))
        hub.fault("short.bin", resized(500))
        hub.fault("wrong.bin", wrong())
        out = client(hub, tmp_path, FAULTS)
        asked = [headers["Range"] for method, path, headers in hub.requests if "/lfs/" in path and "big.bin" in path]
        assert not any(faults for _, _, faults in hub.faults)
    assert asked == [None, f"bytes={CHUNK}-"]
    assert out["cut"] == sha256(BIG)
    assert (out["500"], out["then"]) == ("HfHubHTTPError", sha256(b"small" + SMALL))
    assert (out["gated"], out["reset"], out["short"]) == ("GatedRepoError", "ReadError", "OSError")
    assert out["wrong"] == sha256(bytes(byte ^ 0x55 for byte in b"wrong" + SMALL))  # the client does not check


def get(url, timeout=5, **headers):
    headers = {key.replace("_", "-"): value for key, value in headers.items()}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, headers=headers), timeout=timeout) as answer:
        return answer.status, answer.headers, answer.read()


def test_plain_files_and_ranges():
    with Hub() as hub:
        url = hub.serve("some dir/x.h5", SMALL, {"x-goog-hash": "md5=abc"})
        code, headers, data = get(url)
        assert (code, data) == (200, SMALL)
        assert (headers["Content-Length"], headers["X-Goog-Hash"]) == ("1000", "md5=abc")
        for asked, start, stop in (("10-19", 10, 20), ("990-", 990, 1000), ("-5", 995, 1000), ("0-5000", 0, 1000)):
            code, headers, data = get(url, Range=f"bytes={asked}")
            assert (code, data) == (206, SMALL[start:stop])
            assert headers["Content-Range"] == f"bytes {start}-{stop - 1}/1000"
        assert get(url, Range="bytes=10-", If_Range=headers["ETag"])[0] == 206
        assert get(url, Range="bytes=10-", If_Range='"another"')[0] == 200
        with pytest.raises(urllib.error.HTTPError, match="416"):
            get(url, Range="bytes=1000-")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(hub.storage + "/files/none")


def test_faults_come_in_order_and_end():
    with Hub() as hub:
        url = hub.serve("x", SMALL)
        other = hub.serve("other", b"other")
        hub.fault("/x$", no_range(), wrong(), resized(2000), redirect(other), cut(10), cut(10, reset=True))
        hub.fault("/x$", status(429, {"Retry-After": "0"}), hang(5), hang(5, after=10), slow(5000), hang(0.3))
        assert get(url, Range="bytes=10-")[::2] == (200, SMALL)
        damaged = get(url)[2]
        assert (len(damaged), damaged != SMALL) == (1000, True)
        assert get(url)[2] == SMALL + bytes(1000)
        assert get(url)[2] == b"other"
        with pytest.raises(http.client.IncompleteRead) as short:
            get(url, Range="bytes=100-")
        assert (short.value.partial, short.value.expected) == (SMALL[100:110], 890)
        with pytest.raises(ConnectionResetError):
            get(url)
        with pytest.raises(urllib.error.HTTPError, match="429"):
            get(url)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                get(url, timeout=0.2)
        for least in (0.15, 0.3, 0):
            start = time.monotonic()
            assert get(url)[2] == SMALL
            assert time.monotonic() - start >= least
        start = time.monotonic()
    assert time.monotonic() - start < 1  # nothing that hangs is waited for


def test_hostile_names_can_be_had():
    with Hub() as hub:
        hub.commit("o/n", {"a": b"a"})
        hub.extra_siblings("o/n", ["../../x", "/etc/passwd"])
        listed = [each["rfilename"] for each in json.loads(get(f"{hub.endpoint}/api/models/o/n")[2])["siblings"]]
        assert sorted(listed) == ["../../x", "/etc/passwd", "a"]
        assert get(f"{hub.endpoint}/o/n/resolve/main/..%2F..%2Fx")[2] == HOSTILE
        assert get(f"{hub.endpoint}/o/n/resolve/main//etc/passwd")[2] == HOSTILE
        assert hub.files("o/n") == {"a": b"a"}
