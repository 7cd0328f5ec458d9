"""Where a training computes: two logical devices as one, a TPU by a stand-in, and what is refused."""

import importlib.metadata
import json
import subprocess
import sys
import textwrap

import keras
import pytest
import tensorflow as tf

import zoo
from training import strategy as module
from training.strategy import backend_loop, replicas_of, strategy


def test_one_device():
    made = strategy()
    assert replicas_of(made) == 1
    assert backend_loop().__name__ == "training.loop"
    assert backend_loop().process() == (0, 1)
    assert backend_loop().gathered({"a": 1}) == [{"a": 1}]


TWO = textwrap.dedent(
    """
    import json, os, sys
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras, numpy as np, tensorflow as tf
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    import zoo
    from training import recipe
    from training.job import Job, build
    from training.run import train
    from training.strategy import strategy

    data, folder = sys.argv[1:]
    sets = ["epochs=1", "batch=256", "ema={decay: 0.5}", "learning_rate.peak=0.001", "learning_rate.warmup_epochs=0"]
    job = Job("resnet-20", data, recipe.load("digits", [*sets, "sync_batch_norm=true", "bn=recalibrate"]))
    results = [train(job, f"{folder}/{name}", strategy=strategy(name)) for name in ("mirrored", "one")]
    keras.utils.set_random_seed(job.seed)
    values = [[np.asarray(v) for v in m.variables] for m in (
        *(zoo.load(f"{folder}/{name}/model", True) for name in ("mirrored", "one")), build(job, 10, 1)[0]
    )]
    norm = np.linalg.norm
    found = {
        "machines": [result["machine"]["replicas"] for result in results],
        "steps": [result["steps"] for result in results],
        "apart": max(float(norm(two - one) / norm(one - old)) for two, one, old in zip(*values) if norm(one - old)),
    }
    print(json.dumps(found))
    """
)


def test_two_devices_are_one(few_digits, tmp_path):
    """A whole training of one step on two logical processors and on one: what each variable has moved by.

    Within 5 %, for Keras' synchronised batch norm computes a variance as a difference of two means, and the stem's
    gradient is what is left of large sums. Batch norms over each device's own rows are far outside of it.
    """
    command = [sys.executable, "-c", TWO, str(few_digits), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["machines"] == [2, 1]
    assert found["steps"] == [1, 1]
    assert found["apart"] < 0.05


def test_tpu_by_a_stand_in(monkeypatch):
    """No TPU is here: only that the resolver, the connection and the strategy are asked for, in this order."""
    calls = []

    class Resolver:
        def __init__(self, tpu):
            calls.append(("resolver", tpu))

    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", Resolver)
    monkeypatch.setattr(tf.config, "experimental_connect_to_cluster", lambda _: calls.append("connect"))
    monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", lambda _: calls.append("initialize"))
    monkeypatch.setattr(tf.distribute, "TPUStrategy", lambda resolver: (calls.append("strategy"), resolver)[1])
    assert isinstance(strategy("tpu"), Resolver)
    assert calls == [("resolver", "local"), "connect", "initialize", "strategy"]


def test_no_tpu():
    with pytest.raises(zoo.ZooError, match=r"--strategy=tpu: TensorFlow \S+ finds no TPU \(tensorflow-tpu not inst"):
        strategy("tpu")


def test_tpu_of_another_version(monkeypatch):
    monkeypatch.setattr(module, "_version", lambda package: "2.18.0")
    with pytest.raises(zoo.ZooError, match=r"tensorflow-tpu is 2\.18\.0, but the TensorFlow that is imported is "):
        strategy("tpu")


def test_versions_are_those_installed():
    assert module._version("tensorflow") == importlib.metadata.version("tensorflow")
    assert module._version("no-such-package") is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "two"}, r"'two'.*one, mirrored, tpu, hosts"),
        ({"name": "one", "hosts": 2}, r"coordinator, hosts and host are of --strategy=hosts, not of one"),
        ({"name": "hosts"}, r"needs KERAS_BACKEND=jax .*not tensorflow.*MultiWorkerMirroredStrategy is not offered"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(zoo.ZooError, match=message):
        strategy(**arguments)


@pytest.mark.parametrize("name", ["one", "mirrored"])
def test_workers_of_tf_config_would_train_alone(monkeypatch, name):
    cluster = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    with pytest.raises(zoo.ZooError, match=rf"TF_CONFIG names 2 workers, which --strategy={name} would not join"):
        strategy(name)
    monkeypatch.setenv("TF_CONFIG", "{")
    with pytest.raises(zoo.ZooError, match=r"TF_CONFIG is not what TensorFlow reads"):
        strategy(name)
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {"worker": ["a:1"]}}))
    assert replicas_of(strategy("one")) == 1


@pytest.mark.parametrize(
    ("backend", "name", "message"),
    [
        ("jax", "mirrored", r"--strategy=mirrored needs KERAS_BACKEND=tensorflow in the environment, not jax"),
        ("jax", "tpu", r"--strategy=tpu needs KERAS_BACKEND=tensorflow"),
    ],
)
def test_strategies_of_the_other_backend(monkeypatch, backend, name, message):
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda *_: None)
    with pytest.raises(zoo.ZooError, match=message):
        strategy(name)


@pytest.mark.parametrize("coordinator", ["localhost", "localhost:", "a b:1", "a:1,b:2"])
def test_a_coordinator_is_an_address(monkeypatch, coordinator):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda *_: None)
    with pytest.raises(zoo.ZooError, match=r"coordinator must be 'address:port' of process 0, not "):
        strategy("hosts", coordinator=coordinator, hosts=2, host=0)
