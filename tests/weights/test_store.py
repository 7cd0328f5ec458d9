"""The cache and a user's own files: verified, atomic, shared by processes, optional, and followed nowhere."""

import json
import logging
import os
import struct
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hub_server import Hub, wrong
from regenerate import values
from safetensors.numpy import load_file, save

from scaling_rules.errors import ZooError
from weights import cache, files, manifest, store
from weights.adapt import with_channels
from weights.convert.tensors import to_layout
from zoo import catalog, registry

NAME = "efficientnet-lite0"
SMALL = "mobilenet-v2-0.5x"
TAG = "lamb_in1k"


@pytest.fixture
def record():
    return manifest.record(NAME)


@pytest.fixture
def spec():
    return catalog.spec(NAME)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def no_source(*_):
    raise AssertionError("the source was opened")


def weights_file(root):
    (path,) = (root / "weights").glob("*.safetensors")
    return path


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[path], b[path]) for path in a)


def test_converted_once_and_read_from_the_cache_after(root, spec, record, monkeypatch):
    first = store.published(spec, record)
    path = weights_file(root)
    assert path.name == f"{NAME}.pypi_in1k-{record['tensors_sha256'][:8]}.safetensors"
    assert load_file(path).keys() == first.tensors.keys()
    assert not (root / "downloads").exists() or not list((root / "downloads").iterdir())
    monkeypatch.setattr(store, "source_file", no_source)
    second = store.published(spec, record)
    assert same(first.tensors, second.tensors)
    assert second.spec == spec


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: f.write_bytes(f.read_bytes()[:-1] + b"\x55"),
        lambda f: f.write_bytes(f.read_bytes()[:1000]),
        lambda f: f.write_bytes(b""),
        lambda f: f.write_bytes(os.urandom(5000)),
        lambda f: cache.seal_of(f).unlink(),
        lambda f: cache.seal_of(f).write_text("[]"),
    ],
    ids=["one byte", "truncated", "empty", "noise", "no seal", "a broken seal"],
)
def test_a_corrupted_cache_file_is_made_again(root, spec, record, damage, caplog):
    good = store.digest(store.published(spec, record).tensors)
    path = weights_file(root)
    damage(path)
    with caplog.at_level(logging.WARNING, "zoo"):
        again = store.published(spec, record)
    assert "is corrupted and is made again" in caplog.text
    assert store.digest(again.tensors) == good == store.digest(load_file(path))


def test_a_file_with_another_time_is_hashed_once_and_kept(root, spec, record, monkeypatch):
    store.published(spec, record)
    os.utime(weights_file(root), (1, 1))
    hashed = []
    whole = cache.sha256_of
    monkeypatch.setattr(cache, "sha256_of", lambda path: hashed.append(path) or whole(path))
    monkeypatch.setattr(store, "source_file", no_source)
    store.published(spec, record)
    assert hashed
    hashed.clear()
    store.published(spec, record)
    assert hashed == []


def test_a_file_of_another_network_is_not_taken(root, spec, record, caplog):
    store.published(spec, record)
    path = weights_file(root)
    other = registry.architecture("resnet-20")
    files.write(path, values(other), store.config.Config(other, None))
    cache.seal(path, {})
    assert store.published(spec, record).tensors.keys() != values(other).keys()
    assert "it is of another network" in caplog.text


def test_without_write_access_the_weights_still_load(tmp_path, spec, record, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file"))  # root may write anywhere but into a file
    with caplog.at_level(logging.WARNING, "zoo"):
        assert len(store.published(spec, record).tensors) == 247
    assert "cannot write the cache" in caplog.text
    assert "Not a directory" in caplog.text


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        files.write(tmp_path / "w.safetensors", {"a": np.zeros(3)})
    assert list(tmp_path.iterdir()) == []


def test_threads_write_one_file(tmp_path):
    tensors = {"a": np.arange(10_000.0)}
    threads = [threading.Thread(target=files.write, args=(tmp_path / "w.safetensors", tensors)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]
    assert np.array_equal(load_file(tmp_path / "w.safetensors")["a"], tensors["a"])


def test_cache_folder(monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", "/a")
    assert cache.cache_dir() == Path("/a")
    monkeypatch.delenv("ZOO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache.cache_dir() == Path("/b/zoo")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_dir() == Path.home() / ".cache" / "zoo"


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


def test_tensors_that_are_not_the_records_are_not_cached(root, spec, record):
    with pytest.raises(ZooError, match="converted tensors are not those of its record"):
        store.published(spec, {**record, "tensors_sha256": "0" * 64})
    assert not list(root.rglob("*.safetensors"))


@pytest.mark.parametrize("link", ["weights", "locks", "downloads"])
def test_a_link_in_the_cache_is_not_followed(root, spec, record, tmp_path, link):
    (tmp_path / "elsewhere").mkdir()
    root.mkdir()
    (root / link).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ZooError, match=f"/{link}' is a symbolic link inside the cache; refused"):
        store.published(spec, record)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_link_in_place_of_the_file_is_refused_and_the_cache_itself_may_be_one(root, spec, record, tmp_path):
    (tmp_path / "big disk").mkdir()
    root.symlink_to(tmp_path / "big disk")
    store.published(spec, record)
    path = weights_file(root)
    path.rename(tmp_path / "w.safetensors")
    path.symlink_to(tmp_path / "w.safetensors")
    with pytest.raises(ZooError, match="is a symbolic link inside the cache"):
        store.published(spec, record)


# -- from the hub, with the manifest's own records


@pytest.fixture(scope="module")
def small():
    """A state dict as timm publishes it for a record of the manifest, and what it is in our names."""
    spec = catalog.spec(SMALL, TAG)
    drawn = values(spec)
    theirs = to_layout(spec, "timm", drawn)
    theirs |= {
        name.replace("running_mean", "num_batches_tracked"): np.array(1) for name in theirs if "running_mean" in name
    }
    return drawn, theirs


@pytest.fixture
def hub(monkeypatch):
    with Hub() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.endpoint)
        monkeypatch.setattr("weights.download.WAIT", 0.001)
        monkeypatch.setattr("weights.hub.WAIT", 0.001)
        yield served


def repository(tag_record):
    return tag_record["sources"][0]["repo"]


def test_a_record_of_the_hub(root, hub, small):
    drawn, theirs = small
    record, spec = manifest.record(SMALL, TAG), catalog.spec(SMALL, TAG)
    hub.commit(repository(record), {"model.safetensors": save(theirs)})
    assert same(store.published(spec, record).tensors, drawn)
    asked = len(hub.requests)
    assert same(store.published(spec, record).tensors, drawn)
    assert len(hub.requests) == asked
    noted = cache.facts(weights_file(root))
    assert noted["origin"].startswith(f"hf://{repository(record)}@")
    assert noted["tensors_sha256"] == store.digest(drawn)


def test_what_the_first_download_held_must_be_there_ever_after(root, hub, small):
    drawn, theirs = small
    record, spec = manifest.record(SMALL, TAG), catalog.spec(SMALL, TAG)
    hub.commit(repository(record), {"model.safetensors": save(theirs)})
    store.published(spec, record)
    path = weights_file(root)
    path.write_bytes(b"damaged")
    changed = {**theirs, "bn1.weight": theirs["bn1.weight"] + 1}
    hub.commit(repository(record), {"model.safetensors": save(changed)})
    with pytest.raises(ZooError, match=r"not those of the first download \(sha256 .*to accept.*remove '.*\.json'"):
        store.published(spec, record)
    cache.seal_of(path).unlink()
    assert not same(store.published(spec, record).tensors, drawn)


def test_wrong_bytes_from_the_hub_are_not_cached(root, hub, small):
    record, spec = manifest.record(SMALL, TAG), catalog.spec(SMALL, TAG)
    hub.commit(repository(record), {"model.safetensors": save(small[1])})
    hub.fault("model.safetensors", wrong())
    record = {**record, "sources": record["sources"][:1]}
    with pytest.raises(ZooError, match=r"has sha256 .*, the host says"):
        store.published(spec, record)
    assert not list(root.rglob("*.safetensors*"))


def test_processes_that_ask_at_once_download_once(root, hub, small):
    record = manifest.record(SMALL, TAG)
    hub.commit(repository(record), {"model.safetensors": save(small[1])})
    command = [sys.executable, "-P", "-m", "zoo.cli", "download", f"{SMALL}.{TAG}"]
    env = {**hub.env(root.parent / "home"), "ZOO_CACHE": str(root)}
    children = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert {child.communicate(timeout=60)[0] for child in children} == {f"{SMALL}.{TAG}\n"}
    assert sum(method == "GET" and "/lfs/" in path for method, path, _ in hub.requests) == 1


def test_offline_says_how_to_bring_the_weights(root, hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    record, spec = manifest.record(SMALL, TAG), catalog.spec(SMALL, TAG)
    with pytest.raises(ZooError) as error:
        store.published(spec, record)
    text = str(error.value)
    assert f"`zoo download {SMALL}.{TAG} --to DIR`; copy DIR here and set ZOO_CACHE" in text
    assert "\n" not in text


# -- a user's own


@pytest.mark.parametrize("layout", ["", "timm"])
@pytest.mark.parametrize("classes", [0, 7, 1000])
def test_a_file_decides_classes_and_channels(tmp_path, layout, classes):
    spec = with_channels(replace(registry.architecture("resnet-18"), classes=classes), 4)
    tensors = values(spec)
    files.write(tmp_path / "w.safetensors", to_layout(spec, layout, tensors) if layout else tensors)
    found = store.fitted(registry.architecture("resnet-18"), store.opened(tmp_path / "w.safetensors"))
    assert found.spec == spec
    assert same(found.tensors, tensors)


def test_a_file_that_says_what_it_is_needs_no_name(tmp_path):
    spec = replace(registry.architecture("resnet-20"), classes=3)
    files.write(tmp_path / "w.safetensors", values(spec), store.config.Config(spec, None))
    assert store.fitted(None, store.opened(tmp_path / "w.safetensors")).spec == spec
    with pytest.raises(ZooError, match="it holds resnet-20, not resnet-32"):
        store.fitted(registry.architecture("resnet-32"), store.opened(tmp_path / "w.safetensors"))
    files.write(tmp_path / "bare.safetensors", values(spec))
    with pytest.raises(ZooError, match="it does not say which network it is of; load it by name"):
        store.fitted(None, store.opened(tmp_path / "bare.safetensors"))


def test_not_strictly(tmp_path):
    spec = registry.architecture("resnet-20")
    tensors = values(spec)
    gone = tensors.pop("stem.norm.gamma")
    tensors |= {"extra": gone, "stem.norm.beta": np.zeros(5, np.float32)}
    files.write(tmp_path / "w.safetensors", tensors)
    with pytest.raises(ZooError, match=r"missing stem.norm.gamma; unused extra"):
        store.fitted(spec, store.opened(tmp_path / "w.safetensors"))
    found = store.fitted(spec, store.opened(tmp_path / "w.safetensors"), strict=False)
    assert set(found.unused) == {"extra", "stem.norm.beta"}
    assert found.tensors.keys() == values(spec).keys() - {"stem.norm.gamma", "stem.norm.beta"}


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_files(tmp_path, kind):
    """bfloat16 by hand: the upper halves of float32, as the safetensors format stores it."""
    numbers = np.array([[1.0, -2.5], [0.15625, 3.0]], np.float32)
    raw = (
        numbers.astype(np.float16).tobytes()
        if kind == "float16"
        else (numbers.view("<u4") >> 16).astype("<u2").tobytes()
    )
    code = {"float16": "F16", "bfloat16": "BF16"}[kind]
    header = json.dumps({"a": {"dtype": code, "shape": [2, 2], "data_offsets": [0, 8]}}).encode()
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + raw)
    assert np.array_equal(files.read(tmp_path / "w.safetensors").tensors["a"], numbers)


def test_a_tensor_of_too_many_dimensions(tmp_path):
    """NumPy would refuse it only when the array is made, long after the file was opened."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [1] * 100, "data_offsets": [0, 4]}}).encode()
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(ZooError, match="tensor 'a' has 100 dimensions; at most 32"):
        files.read(tmp_path / "w.safetensors")


def test_a_file_that_shrinks_while_it_is_read(tmp_path):
    files.write(tmp_path / "w.safetensors", {"a": np.zeros(1000, np.float32)})
    (stored,) = files.read(tmp_path / "w.safetensors").tensors.values()
    (tmp_path / "w.safetensors").write_bytes(b"short")
    with pytest.raises(ZooError, match="became shorter while it was read"):
        np.asarray(stored)
