"""Plain downloads against a real server that cuts, stalls, lies, and a disk that fills up."""

import shutil
import signal
import subprocess
import sys
import time

import pytest
from hub_server import Hub, cut, hang, no_range, resized, slow, status, wrong
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaling_rules.errors import ZooError
from weights import download as module
from weights.download import download

DATA = bytes(range(251)) * 1200  # 301,200 bytes, of no power of two


@pytest.fixture(scope="module")
def hub():
    with Hub() as served:
        yield served


@pytest.fixture(autouse=True)
def _quick(monkeypatch, hub):
    monkeypatch.setattr(module, "WAIT", 0.001)
    hub.faults.clear()
    hub.requests.clear()


def ranges(hub):
    return [headers["Range"] for method, _, headers in hub.requests if method == "GET"]


def test_a_whole_file(hub, tmp_path):
    url = hub.serve("/a/b.bin", DATA, {"x-goog-hash": "md5=1B2M2Y8AsgTpgAmY7PhCfg==, crc32c=x"})
    answer = download(url, tmp_path / "new" / "b.bin", limit=len(DATA))
    assert answer == (len(DATA), "d41d8cd98f00b204e9800998ecf8427e")
    assert (tmp_path / "new" / "b.bin").read_bytes() == DATA
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["b.bin"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.tuples(st.integers(0, len(DATA) - 1), st.booleans()), max_size=4), ranged=st.booleans())
def test_connections_that_end_anywhere(hub, tmp_path, cuts, ranged):
    """Cut after any number of bytes, by FIN or RST, with and without Range: in the end the very bytes are there."""
    hub.faults.clear()
    url = hub.serve("/cut.bin", DATA)
    hub.fault("cut.bin", *(cut(n, reset=reset) for n, reset in cuts), *([] if ranged else [no_range()]))
    (tmp_path / "cut.bin").unlink(missing_ok=True)
    download(url, tmp_path / "cut.bin", limit=len(DATA))
    assert (tmp_path / "cut.bin").read_bytes() == DATA
    assert not (tmp_path / "cut.bin.part").exists()


def test_what_came_is_not_asked_again(hub, tmp_path):
    url = hub.serve("/r.bin", DATA)
    hub.fault("r.bin", cut(200_000), status(500))
    download(url, tmp_path / "r.bin", limit=len(DATA))
    assert ranges(hub) == [None, "bytes=196608-", "bytes=196608-"]


@pytest.mark.parametrize("code", [500, 502, 503, 429, 408])
def test_a_failing_host_is_asked_again(hub, tmp_path, code):
    url = hub.serve("/f.bin", DATA)
    hub.fault("f.bin", status(code), status(code))
    download(url, tmp_path / "f.bin", limit=len(DATA))
    assert (tmp_path / "f.bin").read_bytes() == DATA
    assert len(hub.requests) == 3


@pytest.mark.parametrize(("code", "asked"), [(404, 1), (403, 1), (401, 1), (500, module.TRIES)])
def test_a_refusal_is_final_and_a_failure_is_not_for_ever(hub, tmp_path, code, asked):
    url = hub.serve("/no.bin", DATA)
    hub.fault("no.bin", *[status(code)] * 10)
    with pytest.raises(ZooError, match=rf"^cannot download {url}: {code} .*\.$"):
        download(url, tmp_path / "no.bin", limit=len(DATA))
    assert len(hub.requests) == asked
    assert list(tmp_path.iterdir()) == []


def test_no_host(tmp_path):
    with pytest.raises(ZooError, match=r"cannot download http://127.0.0.1:9/x: ") as error:
        download("http://127.0.0.1:9/x", tmp_path / "x", limit=10)
    assert "\n" not in str(error.value)


def test_too_many_bytes(hub, tmp_path):
    url = hub.serve("/big.bin", DATA)
    with pytest.raises(ZooError, match="has 301,200 bytes; at most 1,000 were expected"):
        download(url, tmp_path / "big.bin", limit=1000)
    assert list(tmp_path.iterdir()) == []


def test_a_host_that_sends_another_length_than_it_says(hub, tmp_path):
    url = hub.serve("/odd.bin", DATA)
    hub.fault("odd.bin", resized(len(DATA) + 7))
    download(url, tmp_path / "odd.bin", limit=len(DATA) + 7)  # its content is for the caller's hash to judge
    assert (tmp_path / "odd.bin").stat().st_size == len(DATA) + 7


def test_a_part_of_an_older_file(hub, tmp_path):
    """A part longer than the file is dropped; one of other bytes is completed, for the caller's hash to see."""
    url = hub.serve("/old.bin", DATA)
    (tmp_path / "old.bin.part").write_bytes(b"x" * (len(DATA) + 5))
    download(url, tmp_path / "old.bin", limit=len(DATA))
    assert (tmp_path / "old.bin").read_bytes() == DATA
    assert ranges(hub) == ["bytes=301205-", None]
    (tmp_path / "old.bin.part").write_bytes(b"x" * 100_000)
    download(url, tmp_path / "old.bin", limit=len(DATA))
    assert (tmp_path / "old.bin").read_bytes() == b"x" * 100_000 + DATA[100_000:]


def test_a_link_is_not_written_through(hub, tmp_path):
    url = hub.serve("/link.bin", DATA)
    (tmp_path / "victim").write_bytes(b"mine")
    (tmp_path / "link.bin.part").symlink_to(tmp_path / "victim")
    with pytest.raises(ZooError, match="Too many levels of symbolic links"):
        download(url, tmp_path / "link.bin", limit=len(DATA))
    assert (tmp_path / "victim").read_bytes() == b"mine"


def test_a_stalled_host_is_left_and_asked_again(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", (2.0, 0.3))
    url = hub.serve("/stall.bin", DATA)
    hub.fault("stall.bin", hang(3, after=131_072), hang(3))
    start = time.monotonic()
    download(url, tmp_path / "stall.bin", limit=len(DATA))
    assert (tmp_path / "stall.bin").read_bytes() == DATA
    assert ranges(hub) == [None, "bytes=131072-", "bytes=131072-"]
    assert time.monotonic() - start < 3  # neither answer was waited for


def test_a_slow_host_is_waited_for(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", (2.0, 0.5))
    url = hub.serve("/slow.bin", DATA)
    hub.fault("slow.bin", slow(400_000))
    download(url, tmp_path / "slow.bin", limit=len(DATA))
    assert len(hub.requests) == 1


def test_wrong_bytes_are_the_callers_to_see(hub, tmp_path):
    url = hub.serve("/wrong.bin", DATA)
    hub.fault("wrong.bin", wrong())
    download(url, tmp_path / "wrong.bin", limit=len(DATA))
    assert (tmp_path / "wrong.bin").read_bytes() != DATA


CHILD = """
import sys
from pathlib import Path
from weights import download
print("up", flush=True)
try:
    download.download(sys.argv[1], Path(sys.argv[2]), limit=10**9)
except download.ZooError as error:
    print(error)
"""


def test_killed_in_the_middle_and_resumed(hub, tmp_path):
    url = hub.serve("/kill.bin", DATA)
    hub.fault("kill.bin", slow(100_000))
    target = tmp_path / "kill.bin"
    child = subprocess.Popen([sys.executable, "-P", "-c", CHILD, url, target], stdout=subprocess.PIPE)
    part = tmp_path / "kill.bin.part"
    while not (part.exists() and part.stat().st_size):
        assert child.poll() is None
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    have = part.stat().st_size
    assert 0 < have < len(DATA)
    assert not target.exists()
    hub.faults.clear()
    download(url, target, limit=len(DATA))
    assert target.read_bytes() == DATA
    assert ranges(hub) == [None, f"bytes={have}-"]


def test_a_full_disk(hub, tmp_path):
    """On a tmpfs of 128 kB where one can be mounted, else under a limit on the size of files."""
    url = hub.serve("/full.bin", DATA)
    small = tmp_path / "small"
    small.mkdir()
    child = f"{sys.executable} -P -c '{CHILD}' {url} {small}/full.bin; ls {small}"
    mounted = f"mount -t tmpfs -o size=128k tmpfs {small} && {child}"
    unshare = ["unshare", "--mount", "--user", "--map-root-user", "sh", "-c", mounted]
    done = subprocess.run(unshare, capture_output=True, text=True) if shutil.which("unshare") else None
    if done is None or "up" not in done.stdout:
        done = subprocess.run(["sh", "-c", f"ulimit -f 128; {child}"], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert lines[0] == "up", done.stderr
    assert lines[1].startswith(f"cannot write '{small}/full.bin.part': ")
    assert lines[1].endswith(("No space left on device.", "File too large."))
    assert lines[2:] == []  # the part was removed, so that the disk is not left full


def test_a_token_stays_with_its_host(hub, tmp_path):
    """Large files of the hub lie on another host, which must not see the token."""
    hub.commit("me/net", {"model.safetensors": DATA})
    url = f"{hub.endpoint}/me/net/resolve/main/model.safetensors"
    download(url, tmp_path / "m", limit=len(DATA), headers={"authorization": "Bearer secret"})
    seen = {path.split("/")[1]: headers["Authorization"] for _, path, headers in hub.requests}
    assert seen == {"me": "Bearer secret", "lfs": None}
