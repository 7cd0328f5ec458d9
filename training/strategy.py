"""Where a training computes: one device, the GPUs of a machine, a TPU, or several hosts (`--strategy`)."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import re
from types import ModuleType
from typing import TypeAlias

import keras
import tensorflow as tf

from scaling_rules.errors import ZooError, shown, unknown

Strategy: TypeAlias = tf.distribute.Strategy | keras.distribution.DataParallel

NAMES = ("one", "mirrored", "tpu", "hosts")


def strategy(
    name: str = "one", *, coordinator: str | None = None, hosts: int | None = None, host: int | None = None
) -> Strategy:
    """What `training.loop.Trainer` takes on TensorFlow, and `training.jax_loop.Trainer` on JAX, as `strategy`.

    name: 'one' device; 'mirrored', all GPUs of this machine, or its logical CPU devices where it has none; 'tpu', the
    TPU of this virtual machine; 'hosts', all devices of several processes, on JAX. The model and the optimizer are to
    be made inside its scope(). Call it first: JAX cannot be told of other processes once it has computed something.

    coordinator: 'address:port' of process 0, hosts: the number of processes, host: the number of this one, from 0. What
    is None is taken from KERAS_DISTRIBUTION_JOB_ADDRESSES, _NUM_PROCESSES and _PROCESS_ID, else as JAX finds it out
    from Slurm, Open MPI, Kubernetes or a TPU pod.

    Raises ZooError, one line, where the backend or the devices are not there, or the processes are not known.
    """
    backend = keras.backend.backend()
    if name not in NAMES:
        raise unknown("strategy", name, NAMES)
    if name != "hosts" and (coordinator, hosts, host) != (None, None, None):
        raise ZooError(f"coordinator, hosts and host are of --strategy=hosts, not of {name}.")
    if backend == "jax":
        # TensorFlow reads the pictures only; it would take the memory of the GPUs.
        tf.config.set_visible_devices([], "GPU")
    if name == "hosts":
        if backend != "jax":
            raise ZooError(
                f"--strategy=hosts needs KERAS_BACKEND=jax in the environment, not {backend}. "
                "MultiWorkerMirroredStrategy is not offered: its batch norm is over the rows of each device, "
                "and Keras' fit fails under it (keras-team/keras#20585)."
            )
        return _hosts(coordinator, hosts, host)
    if name == "one" and backend == "jax":
        return keras.distribution.DataParallel(devices=keras.distribution.list_devices()[:1])
    if backend != "tensorflow":
        raise ZooError(f"--strategy={name} needs KERAS_BACKEND=tensorflow in the environment, not {backend}.")
    workers = _workers(os.environ.get("TF_CONFIG"))
    if workers > 1:
        raise ZooError(
            f"TF_CONFIG names {workers} workers, which --strategy={name} would not join: each would train alone. Use "
            "--strategy=hosts with KERAS_BACKEND=jax, or unset TF_CONFIG."
        )
    if name == "tpu":
        return _tpu()
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()


def backend_loop() -> ModuleType:
    """`training.loop`, or `training.jax_loop` where Keras computes by JAX: both have the same names."""
    return importlib.import_module("training.jax_loop" if keras.backend.backend() == "jax" else "training.loop")


def replicas_of(made: Strategy) -> int:
    """How many devices have a part of each batch."""
    return made.num_replicas_in_sync if isinstance(made, tf.distribute.Strategy) else made.num_model_replicas


def _hosts(coordinator: str | None, hosts: int | None, host: int | None) -> keras.distribution.DataParallel:
    if coordinator is not None and not re.fullmatch(r"[^\s,]+:\d+", coordinator):
        raise ZooError(f"coordinator must be 'address:port' of process 0, not {coordinator!r:.80}.")
    try:
        keras.distribution.initialize(coordinator, hosts, host)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ZooError(
            "the processes of --strategy=hosts cannot be joined; give --coordinator=address:port, --hosts=number and "
            f"--host=number of this one, or start them by srun: {shown(error, 200)}"
        ) from None
    return keras.distribution.DataParallel()


def _tpu() -> tf.distribute.Strategy:
    versions = {name: _version(name) for name in ("tensorflow-tpu", "libtpu")}
    if versions["tensorflow-tpu"] not in (None, tf.__version__):
        raise ZooError(
            f"--strategy=tpu: tensorflow-tpu is {versions['tensorflow-tpu']}, but the TensorFlow that is imported is "
            f"{tf.__version__}: remove the package tensorflow, and install tensorflow-tpu again."
        )
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu="local")
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        found = ", ".join(f"{name} {version or 'not installed'}" for name, version in versions.items())
        raise ZooError(
            f"--strategy=tpu: TensorFlow {tf.__version__} finds no TPU ({found}). On a TPU VM, install tensorflow-tpu "
            f"of the version of TensorFlow in place of tensorflow, or use --strategy=hosts on JAX: {shown(error, 200)}"
        ) from None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _workers(config: str | None) -> int:
    """How many workers TF_CONFIG names."""
    try:
        cluster = json.loads(config or "{}").get("cluster", {})
        return sum(len(cluster.get(kind, ())) for kind in ("chief", "worker"))
    except (ValueError, AttributeError, TypeError):
        raise ZooError(f"the environment's TF_CONFIG is not what TensorFlow reads: {shown(config or '', 80)}") from None
