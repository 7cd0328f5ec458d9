"""A network saved, published to a folder and to a hub by the real client, and loaded back bit for bit."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml
from hub_server import HOSTILE, Hub, cut, status, wrong

import zoo
from weights import hub as hub_module
from weights import store
from zoo import cli

MEASURED = {
    "dataset": "emoji",
    "split": "test",
    "metric": "top1",
    "value": 61.5,
    "interval": [60.1, 62.9],
    "samples": 1122,
    "command": "python -m training.evaluate run --data emoji",
    "date": "2026-11-25",
}
REF = "hf://me/tiny-net"
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)


def logits(model):
    return keras.ops.convert_to_numpy(model(PIXELS))


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    return zoo.build("resnet-20", num_classes=3)


def record(tmp_path, **changes):
    (tmp_path / "train.yaml").write_text("epochs: 90\n")
    return {
        "license": "Apache-2.0",
        "data_note": "Trained on three kinds of emoji.",
        "preprocessing": {"resize": 36, "crop": 32, "interpolation": "bilinear"},
        "classes": ["cat", "dog", "owl"],
        "measured": [MEASURED],
        "recipe": str(tmp_path / "train.yaml"),
        **changes,
    }


@pytest.fixture
def saved(model, tmp_path):
    zoo.save(model, tmp_path / "run", record(tmp_path))
    return tmp_path / "run"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with Hub() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.endpoint)
        monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("weights.download.WAIT", 0.001)
        monkeypatch.setattr("weights.hub.WAIT", 0.001)
        yield served


def command(hub, tmp_path, *arguments):
    """`zoo ...` in a process of its own, with the unmodified client; its Xet path is not what this hub speaks."""
    env = hub.env(tmp_path / "home", ZOO_CACHE=str(tmp_path / "cache"), HF_HUB_DISABLE_XET="1")
    return subprocess.run(
        [sys.executable, "-P", "-m", "zoo.cli", *map(str, arguments)],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )


# -- saving


def test_a_saved_folder_and_file_load_by_their_path(model, saved, tmp_path):
    assert sorted(path.name for path in saved.iterdir()) == ["config.json", "model.safetensors", "train.yaml"]
    zoo.save(model, tmp_path / "one.safetensors", record(tmp_path, recipe=None))
    for place in (saved, str(saved), tmp_path / "one.safetensors"):
        again = zoo.load(place)
        np.testing.assert_array_equal(logits(again), logits(model))
        carried = zoo.record_of(again)
        assert carried["classes"] == ["cat", "dog", "owl"]
        assert carried["preprocessing"]["crop"] == 32
        assert zoo.report(again).loaded == tuple(zoo.variables(model))
    stated = json.loads((saved / "config.json").read_text())
    assert stated["record"]["recipe"] == "train.yaml"


def test_what_started_from_published_weights_says_so(tmp_path):
    """Its licence and preprocessing go on, the results claimed for the weights it started from do not."""
    tuned = zoo.load("efficientnet-lite0", pretrained=True, num_classes=3, input_shape=64)
    zoo.save(tuned, tmp_path / "tuned")
    told = json.loads((tmp_path / "tuned" / "config.json").read_text())["record"]
    assert told["base"] == "efficientnet-lite0.pypi_in1k"
    assert (told["license"], told["claimed"], told["measured"], told["tag"]) == ("Apache-2.0", [], [], None)
    assert (told["preprocessing"]["crop"], told["classes"]) == (64, None)
    again = zoo.load(tmp_path / "tuned")
    zoo.save(again, tmp_path / "more")
    assert (
        json.loads((tmp_path / "more" / "config.json").read_text())["record"]["base"] == "efficientnet-lite0.pypi_in1k"
    )


def test_the_dialect_travels_with_a_file(tmp_path):
    """Two dialects of MobileNetV2 have the same tensors; a file of one must not load as the other without a word."""
    for dialect in ("timm", "tensorflow"):
        net = zoo.build(zoo.spec("mobilenet-v2-0.35x", dialect=dialect))
        zoo.save(net, tmp_path / "net.safetensors")
        again = zoo.load("mobilenet-v2-0.35x", pretrained=tmp_path / "net.safetensors")
        np.testing.assert_array_equal(logits(again), logits(net))
    with pytest.raises(zoo.ZooError, match="the weights are of dialect 'tensorflow', not 'timm'"):
        zoo.load("mobilenet-v2-0.35x", pretrained=tmp_path / "net.safetensors", dialect="timm")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licence": "MIT"}, "unknown field of a record 'licence'; valid: license, .*Did you mean license"),
        ({"classes": ["a"]}, "the model has 3 classes, its record names 1"),
        ({"preprocessing": {"resize": 36}}, "'crop' is a required property"),
        ({"preprocessing": None}, "the record needs preprocessing"),
        ({"measured": [{"metric": "top1"}]}, r"measured\[0\]: 'dataset' is a required property"),
        ({"recipe": "no.yaml"}, "no recipe file 'no.yaml'"),
        ({"recipe": 3}, "recipe must be the path of a file, not 3"),
        ({"preprocessing": "bicubic"}, "preprocessing must be {'resize': 256, 'crop': 224, .*, not 'bicubic'"),
        ({"preprocessing": {"resize": 30, "crop": 32, "interpolation": "bilinear"}}, "crop must not exceed resize"),
        ({"classes": "imagenet-1k"}, "the model has 3 classes, its record names 1000"),
        ({"note": "\x1b[31mred"}, "note: .* does not match"),
    ],
)
def test_a_wrong_record_writes_nothing(model, tmp_path, changes, message):
    with pytest.raises(zoo.ZooError, match=message):
        zoo.save(model, tmp_path / "out", record(tmp_path, **changes))
    assert not (tmp_path / "out").exists()


def test_a_record_that_is_none(model, tmp_path):
    with pytest.raises(zoo.ZooError, match=r"record must be a dict of license, .*, not 'recipe.yaml'"):
        zoo.save(model, tmp_path / "out", "recipe.yaml")
    with pytest.raises(zoo.ZooError, match="a recipe is saved beside weights: give a folder"):
        zoo.save(model, tmp_path / "out.safetensors", record(tmp_path))


def around(model):
    return keras.Sequential([model, keras.layers.Dense(5)])


def twice(model):
    other = zoo.build("resnet-32", num_classes=3)
    x = keras.Input((32, 32, 3))
    return keras.Model(x, keras.layers.Average()([model(x), other(x)]))


def quantized(_):
    small = zoo.build("resnet-20", num_classes=3)
    small.get_layer("head.classifier.dense").quantize("int8")
    return small


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (around, "is more than one resnet-20: dense.* has weights too"),
        (twice, "is more than one resnet-20: .* has weights too"),
        (zoo.features, "is a part of resnet-20: it lacks head.classifier.dense.kernel"),
        (quantized, "head.classifier.dense.kernel is int8|has weights too"),
    ],
)
def test_a_model_that_is_not_just_the_network_is_not_saved(model, tmp_path, change, message):
    """Half of its weights, or another's, would be in the file without a word."""
    other = change(model)
    if not other.built:
        other.build((None, 32, 32, 3))
    with pytest.raises(zoo.ZooError, match=message):
        zoo.save(other, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(zoo.ZooError, match=message):
        zoo.load_weights(other, tmp_path / "out")


def test_places_are_found_however_they_are_written(model, saved, tmp_path, monkeypatch):
    class Place(os.PathLike):
        def __fspath__(self):
            return str(saved)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for place in ("run", "./run", "~/run", Place()):
        np.testing.assert_array_equal(logits(zoo.load(place)), logits(model))
    np.testing.assert_array_equal(logits(zoo.load("resnet-20", pretrained="run")), logits(model))
    zoo.save(model, "~/other")
    assert (tmp_path / "other" / "config.json").is_file()
    with pytest.raises(zoo.ZooError, match="says itself which weights it holds"):
        zoo.load("run", pretrained="other")


def test_a_folder_whose_files_do_not_belong_together(saved, tmp_path):
    zoo.save(zoo.build("resnet-20", num_classes=3), tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").replace(saved / "model.safetensors")
    with pytest.raises(zoo.ZooError, match=r"is not the file whose sha256 config.json states"):
        zoo.load(saved)


# -- publishing to a folder


def test_publish_to_a_folder(model, saved, tmp_path, capsys):
    target = tmp_path / "public" / "net"
    assert cli.run(["publish", str(saved), "--to", str(target)]) == 0
    assert capsys.readouterr().out == f"{target}\n"
    assert sorted(path.name for path in target.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "recipe.yaml",
    ]
    assert (target / "recipe.yaml").read_text() == "epochs: 90\n"
    np.testing.assert_array_equal(logits(zoo.load(target)), logits(model))
    card = (target / "README.md").read_text()
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["license"] == "apache-2.0"
    assert head["model-index"][0]["results"][0]["metrics"][0]["value"] == 61.5
    assert f"{zoo.cost(zoo.inspection.spec_of(model)).macs:,}" in card
    with pytest.raises(zoo.ZooError, match="exists; give a new folder"):
        zoo.publish(saved, target)
    with pytest.raises(zoo.ZooError, match="--private is for a hub"):
        zoo.publish(saved, tmp_path / "other", private=True)
    with pytest.raises(zoo.ZooError, match="--tag 'v1' names a version on a hub"):
        zoo.publish(saved, tmp_path / "other", tag="v1")
    with pytest.raises(zoo.ZooError, match=r"no folder '.*model.safetensors'; publish takes what zoo\.save"):
        zoo.publish(saved / "model.safetensors", tmp_path / "other")


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"license": None}, "no licence; give one with --license"),
        ({"measured": []}, "no measured result; measure one with python -m training.evaluate"),
        ({"recipe": None}, "no recipe; give the file that trained the weights with --recipe"),
        ({"license": None, "measured": [], "recipe": None}, "no licence.*; no measured result.*; no recipe"),
        ({"license": "Own-1.0"}, "the licence 'Own-1.0' is none that the hub knows .*put its text into '.*LICENSE'"),
    ],
)
def test_what_is_missing_is_said_and_nothing_written(model, tmp_path, capsys, changes, advice):
    zoo.save(model, tmp_path / "run", record(tmp_path, **changes))
    assert cli.run(["publish", str(tmp_path / "run"), "--to", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert re.match(f"zoo publish: cannot publish .*{advice}", error)
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_licence_and_recipe_given_at_the_prompt(model, tmp_path):
    zoo.save(model, tmp_path / "run", record(tmp_path, license=None, recipe=None))
    (tmp_path / "run" / "LICENSE").write_text("Do what you like.")
    options = ["--license", "Own-1.0", "--recipe", str(tmp_path / "train.yaml")]
    assert cli.run(["publish", str(tmp_path / "run"), "--to", str(tmp_path / "out"), *options]) == 0
    told = json.loads((tmp_path / "out" / "config.json").read_text())["record"]
    assert (told["license"], told["recipe"]) == ("Own-1.0", "recipe.yaml")
    assert (tmp_path / "out" / "LICENSE").read_text() == "Do what you like."


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "config.json").unlink(), "it has no config.json"),
        (lambda run: (run / "model.safetensors").write_bytes(b"x"), "is not the file whose sha256 config.json states"),
        (lambda run: (run / "config.json").write_text("{}"), "'format' is a required property"),
        (lambda run: (run / "train.yaml").unlink(), "no recipe file"),
        (
            lambda run: (run / "config.json").write_text(
                (run / "config.json").read_text().replace('"sha256": "', '"sha256": "' + "0" * 8)[:-70] + '"\n}'
            ),
            "not a config|sha256",
        ),
    ],
)
def test_a_damaged_folder_is_not_published(saved, tmp_path, damage, message):
    damage(saved)
    with pytest.raises(zoo.ZooError, match=message):
        zoo.publish(saved, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("hf://", "is no hub repository; valid: hf://owner/repo"),
        ("hf://owner", "is no hub repository"),
        ("hf://../../x", "is no hub repository"),
        ("hf://a/b@../c", "is no hub repository"),
    ],
)
def test_places_that_are_none(saved, place, message):
    with pytest.raises(zoo.ZooError, match=message):
        zoo.publish(saved, place)
    with pytest.raises(zoo.ZooError, match=message):
        zoo.load(place)


# -- through the hub


def test_published_to_a_hub_and_loaded_back(model, saved, tmp_path, hub, monkeypatch):
    done = command(hub, tmp_path, "publish", saved, "--to", REF, "--tag", "v1")
    assert (done.returncode, done.stdout) == (0, f"{REF}@v1\n"), done.stderr
    held = hub.files("me/tiny-net")
    assert {"README.md", "config.json", "model.safetensors", "recipe.yaml"} <= held.keys()
    assert held["model.safetensors"] == (saved / "model.safetensors").read_bytes()
    assert set(hub.tags("me/tiny-net")) == {"v1"}
    assert any("/info/lfs/objects/batch" in path for _, path, _ in hub.requests)
    for place in (REF, f"{REF}@v1", f"{REF}@main"):
        again = zoo.load(place)
        np.testing.assert_array_equal(logits(again), logits(model))
    assert zoo.record_of(again)["classes"] == ["cat", "dog", "owl"]
    zoo.save(again, tmp_path / "tuned")  # what started from it names it, with its commit
    base = json.loads((tmp_path / "tuned" / "config.json").read_text())["record"]["base"]
    assert re.fullmatch(rf"{REF}@[0-9a-f]{{40}}", base)
    np.testing.assert_array_equal(logits(zoo.load("resnet-20", pretrained=REF)), logits(model))
    with pytest.raises(zoo.ZooError, match="it holds resnet-20, not resnet-32"):
        zoo.load("resnet-32", pretrained=REF)
    downloads = sum(method == "GET" and "/lfs/" in path for method, path, _ in hub.requests)
    assert downloads == 1
    # a tag never changes, and is not moved by accident
    done = command(hub, tmp_path, "publish", saved, "--to", REF, "--tag", "v1")
    assert done.returncode == 2
    assert done.stderr == (
        f"zoo publish: {REF}: not published: there is a tag 'v1' already, and a tag's weights never change.\n"
    )
    # offline what was loaded once is there, and what was not is said
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    np.testing.assert_array_equal(logits(zoo.load(REF)), logits(model))
    np.testing.assert_array_equal(logits(zoo.load(base)), logits(model))
    with pytest.raises(zoo.ZooError, match=r"HF_HUB_OFFLINE is set, and hf://me/other is not in the cache"):
        zoo.load("hf://me/other")


def test_a_branch_is_made_and_a_later_version_is_loaded(model, saved, tmp_path, hub):
    assert command(hub, tmp_path, "publish", saved, "--to", f"{REF}@draft").returncode == 0
    first = logits(zoo.load(f"{REF}@draft"))
    keras.utils.set_random_seed(4)
    zoo.save(zoo.build("resnet-20", num_classes=3), tmp_path / "second", record(tmp_path))
    assert command(hub, tmp_path, "publish", tmp_path / "second", "--to", f"{REF}@draft").returncode == 0
    assert not np.array_equal(logits(zoo.load(f"{REF}@draft")), first)


def test_only_the_base_install_is_needed(model, saved, tmp_path, hub):
    assert command(hub, tmp_path, "publish", saved, "--to", REF).returncode == 0
    np.save(tmp_path / "pixels.npy", PIXELS)
    script = f"""
import sys
for extra in ("tensorflow_datasets", "jax", "ray", "onnxruntime", "openvino", "ai_edge_litert", "tf2onnx", "matplotlib",
              "skimage", "hypothesis", "pytest"):
    sys.modules[extra] = None
import numpy as np, zoo
np.save({str(tmp_path / "logits.npy")!r}, zoo.load({REF!r})(np.load({str(tmp_path / "pixels.npy")!r})))
"""
    env = hub.env(tmp_path / "home", ZOO_CACHE=str(tmp_path / "other cache"))
    subprocess.run([sys.executable, "-P", "-c", script], env=env, check=True, timeout=120)
    np.testing.assert_array_equal(np.load(tmp_path / "logits.npy"), logits(model))


def published(hub, saved, **changes):
    """A repository as somebody else might have written it, without our command."""
    files = {path.name: path.read_bytes() for path in saved.iterdir()}
    return hub.commit("me/tiny-net", files | changes)


def with_config(saved, change):
    data = json.loads((saved / "config.json").read_text())
    change(data)
    return json.dumps(data).encode()


def huge(data):
    data["spec"]["stages"][0][0]["out"] = 65_000


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (lambda saved: {"config.json": b"{"}, "not a config"),
        (lambda saved: {"config.json": b'{"architectures": ["ResNet"]}'}, "config: "),
        (lambda saved: {"config.json": with_config(saved, huge)}, "65000|65,000"),
        (
            lambda saved: {"config.json": with_config(saved, lambda d: d.update(sha256="0" * 64))},
            "config.json says 0000",
        ),
        (lambda saved: {"model.safetensors": b"\0" * 2000}, "has sha256|cannot be read"),
        (lambda saved: {"model.safetensors": None}, "no file 'model.safetensors'"),
        (lambda saved: {"config.json": b" " * (2 << 20)}, "has 2,097,152 bytes; at most 1,048,576"),
        (lambda saved: {"model.safetensors": b"\0" * (20 << 20)}, "has 20,971,520 bytes; at most"),
    ],
)
def test_a_hostile_or_broken_repository(saved, hub, tmp_path, files, message):
    published(hub, saved, **files(saved))
    with pytest.raises(zoo.ZooError, match=message) as error:
        zoo.load(REF)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "cache").rglob("model.safetensors"))


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped-by-zoo-test", "a/../../b", "..\\b"])
def test_a_listing_with_names_that_climb_is_refused(saved, hub, tmp_path, name):
    published(hub, saved)
    hub.extra_siblings("me/tiny-net", [name])
    with pytest.raises(zoo.ZooError, match="which is no plain relative path; refused"):
        zoo.load(REF)
    assert not any(path.is_file() and path.read_bytes() == HOSTILE for path in tmp_path.rglob("*"))
    assert not Path("/tmp/escaped-by-zoo-test").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_links_in_the_caches_copy_are_refused(saved, hub, tmp_path, name):
    published(hub, saved)
    zoo.load(REF)
    (copy,) = (tmp_path / "cache").rglob(name)
    copy.rename(tmp_path / "elsewhere")
    copy.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(zoo.ZooError, match="is a symbolic link inside the cache; refused"):
        zoo.load(REF)


@pytest.mark.parametrize("link", ["{commit}.part", "{commit}.part/config.json", "{commit}.part/model.safetensors.part"])
def test_links_where_a_download_goes_are_not_followed(saved, hub, tmp_path, link):
    commit = published(hub, saved)
    path = tmp_path / "cache" / "hub" / "me--tiny-net" / link.format(commit=commit)
    path.parent.mkdir(parents=True)
    victim = tmp_path / "victim"
    if link.endswith("}.part"):
        victim.mkdir()
    else:
        victim.write_bytes(b"mine")
    path.symlink_to(victim)
    with pytest.raises(zoo.ZooError, match=r"symbolic link inside the cache|Too many levels of symbolic links"):
        zoo.load(REF)
    assert list(victim.iterdir()) == [] if victim.is_dir() else victim.read_bytes() == b"mine"


def test_a_cache_that_is_read_only_is_used(model, saved, hub, tmp_path, monkeypatch):
    """As another user finds a shared one: nothing can be written, and nothing needs to be."""
    published(hub, saved)
    zoo.load(REF)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("weights.files.atomic", refuse)
    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    np.testing.assert_array_equal(logits(zoo.load(REF)), logits(model))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    np.testing.assert_array_equal(logits(zoo.load(REF)), logits(model))


def test_a_cache_that_cannot_be(saved, hub, tmp_path, monkeypatch, capsys):
    published(hub, saved)
    (tmp_path / "file").touch()
    assert cli.run(["download", REF, "--to", str(tmp_path / "file" / "x")]) == 2
    assert capsys.readouterr().err.count("\n") <= 3
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file"))
    with pytest.raises(zoo.ZooError, match="Not a directory"):
        zoo.load(REF)


def test_what_an_interrupted_removal_left_is_replaced(model, saved, hub, tmp_path):
    published(hub, saved)
    zoo.load(REF)
    (config,) = (tmp_path / "cache").rglob("config.json")
    config.unlink()
    np.testing.assert_array_equal(logits(zoo.load(REF)), logits(model))


def test_a_repository_of_timms_names_its_tag(hub):
    hub.commit("timm/resnet50.a1_in1k", {"config.json": b'{"architecture": "resnet50"}', "model.safetensors": b"x"})
    with pytest.raises(zoo.ZooError) as error:
        zoo.load("hf://timm/resnet50.a1_in1k")
    assert str(error.value) == (
        "hf://timm/resnet50.a1_in1k is no network that zoo published: its weights are a tag here, "
        "zoo.load('resnet-50', pretrained='a1_in1k')."
    )


@pytest.mark.parametrize("tag", ["bad tag", "../x", "a..b", "v1\n"])
def test_a_tag_that_cannot_be_is_refused_before_anything_is_sent(saved, hub, tag):
    with pytest.raises(zoo.ZooError, match="cannot name a version"):
        zoo.publish(saved, REF, tag=tag)
    assert not [path for method, path, _ in hub.requests if method == "POST"]


def test_a_withdrawn_repository_is_not_loaded_from_the_cache(saved, hub):
    """Only a hub that cannot be reached is replaced by the commit of last time; a refusal is one."""
    published(hub, saved)
    zoo.load(REF)
    hub.withdraw("me/tiny-net")
    with pytest.raises(zoo.ZooError, match="no such repository, or it is private"):
        zoo.load(REF)


def test_a_password_in_netrc_does_not_replace_the_token(model, saved, hub, tmp_path, monkeypatch):
    published(hub, saved)
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password no\nmachine localhost login me password no\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    zoo.load(REF)
    seen = {headers["Authorization"] for _, path, headers in hub.requests if "/resolve/" in path}
    assert seen == {"Bearer hf_secret"}
    assert {headers["Authorization"] for _, path, headers in hub.requests if "/lfs/" in path} == {None}


def test_predict_takes_a_published_network(saved, hub, tmp_path, capsys, photos):
    published(hub, saved)
    assert cli.run(["predict", str(photos / "coffee.png"), "--model", REF, "--top", "3"]) == 0
    assert {"cat", "dog", "owl"} <= set(capsys.readouterr().out.split())


def test_class_names_are_not_markup(model, tmp_path, capsys, photos):
    zoo.save(model, tmp_path / "run", record(tmp_path, classes=["[/x]", "[bold]b", "c"]))
    assert cli.run(["predict", str(photos / "coffee.png"), "--model", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert "[/x]" in out
    assert "[bold]b" in out


def test_a_damaged_copy_is_removed_and_comes_again(model, saved, hub, tmp_path):
    published(hub, saved)
    zoo.load(REF)
    (copy,) = (tmp_path / "cache").rglob("model.safetensors")
    data = bytearray(copy.read_bytes())
    data[-1] ^= 1
    copy.write_bytes(data)
    with pytest.raises(zoo.ZooError, match="its copy in the cache was damaged and is removed"):
        zoo.load(REF)
    np.testing.assert_array_equal(logits(zoo.load(REF)), logits(model))


def test_faults_on_the_way(model, saved, hub, tmp_path):
    published(hub, saved)
    hub.fault("/api/models/", status(500), status(503))
    hub.fault("model.safetensors", cut(500_000), status(500), cut(700_000, reset=True))
    np.testing.assert_array_equal(logits(zoo.load(REF)), logits(model))


def test_wrong_bytes_are_refused_and_right_ones_come_next_time(model, saved, hub, tmp_path):
    published(hub, saved)
    hub.fault("model.safetensors", wrong())
    with pytest.raises(zoo.ZooError, match=r"model.safetensors has sha256 .*, the hub says"):
        zoo.load(REF)
    np.testing.assert_array_equal(logits(zoo.load(REF)), logits(model))


def test_a_hub_that_cannot_be_reached(model, saved, hub, tmp_path, monkeypatch, caplog):
    published(hub, saved)
    zoo.load(REF)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    np.testing.assert_array_equal(logits(zoo.load(REF)), logits(model))
    assert "using the commit of last time" in caplog.text
    with pytest.raises(zoo.ZooError) as error:
        zoo.load("hf://me/other")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("hf://me/absent", "hf://me/absent: no such repository, or it is private and HF_TOKEN has no access"),
        ("hf://me/tiny-net@v9", "hf://me/tiny-net@v9: no such branch, tag or commit"),
    ],
)
def test_what_is_not_there(saved, hub, ref, message):
    published(hub, saved)
    with pytest.raises(zoo.ZooError, match=message):
        zoo.load(ref)


def test_refs():
    assert hub_module.parse("hf://a/b") == ("a/b", None)
    assert str(hub_module.parse("hf://a.b/c-d_e@v1.0/x")) == "hf://a.b/c-d_e@v1.0/x"
    for bad in ("hf://a/b/c", "hf://a/b@", "hf:/a/b", "hf://a/../b", "hf://a/b@c d", "hf://.a/b", "hf://a/b\n"):
        with pytest.raises(zoo.ZooError, match="is no hub repository"):
            hub_module.parse(bad)


def test_download_for_a_machine_without_internet(hub, saved, tmp_path, model, monkeypatch):
    published(hub, saved)
    folder = tmp_path / "usb stick"
    done = command(hub, tmp_path, "download", "efficientnet-lite0", REF, "--to", folder)
    assert (done.returncode, done.stdout) == (0, f"efficientnet-lite0.pypi_in1k\n{REF}\n"), done.stderr
    assert f"copy {folder} to the other machine and set ZOO_CACHE" in done.stderr
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("ZOO_CACHE", str(folder))
    monkeypatch.setattr(store, "source_file", None)
    assert zoo.load("efficientnet-lite0", pretrained=True).output_shape == (None, 1000)
    np.testing.assert_array_equal(logits(zoo.load(REF)), logits(model))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["efficientnet-b00"], "unknown model 'efficientnet-b00'. Did you mean"),
        (["resnet-20"], "no public weights of resnet-20 are known"),
        (["ghostnet-enlarged-600m"], "no public weights of ghostnet-enlarged-600m exist"),
        (["zzz*"], r"no model with weights matches 'zzz\*'"),
        (["efficientnet-lite0.in22k"], "unknown tag of efficientnet-lite0 'in22k'; valid: pypi_in1k"),
        (["hf://x"], "is no hub repository"),
    ],
)
def test_download_of_what_is_not_there(capsys, names, message):
    assert cli.run(["download", *names]) == 2
    captured = capsys.readouterr()
    assert re.search(message, captured.err)
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_download_reports_each_and_goes_on(hub, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ZOO_MIRRORS", "https://=http://127.0.0.1:9/")
    assert cli.run(["download", "efficientnet-lite0", "mobilenet-v1-0.25x"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "efficientnet-lite0.pypi_in1k\n"
    assert captured.err.startswith(
        "zoo download: mobilenet-v1-0.25x.keras_in1k_224: cannot download http://127.0.0.1:9/"
    )
    assert os.environ["HF_ENDPOINT"] == hub.endpoint
