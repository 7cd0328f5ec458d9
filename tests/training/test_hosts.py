"""Several processes on JAX compute what one does, and lose nothing when one of them is killed."""

import os
import signal
import socket
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from training import checkpoint

STEPS = 30

# A small network with batch norm and dropout; each process takes its half of batches that depend on the step alone.
RUN = textwrap.dedent(
    """
    import pathlib, sys
    import jax, keras, numpy as np
    from keras import layers
    from training import jax_loop
    from training.strategy import strategy

    folder, port, hosts, host, kept = pathlib.Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:6])
    if hosts == 1:
        place = strategy("one")
    elif port == "-":
        place = strategy("hosts")
    else:
        place = strategy("hosts", coordinator=f"localhost:{port}", hosts=hosts, host=host)
    assert (jax.process_count(), jax.process_index()) == (hosts, host)

    def loss(labels, logits):
        return keras.ops.mean(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))

    def batches(start):
        for step in range(start, 10**6):
            rng = np.random.default_rng(step)
            images, labels = rng.normal(size=(8, 8, 8, 3)).astype(np.float32), rng.integers(0, 4, 8)
            # Rows differ in mean and spread, so that statistics of the half would be others.
            images *= np.arange(1, 9, dtype=np.float32)[:, None, None, None] / 4
            rows = slice(host * 8 // hosts, (host + 1) * 8 // hosts)
            yield images[rows], labels[rows].astype(np.int32)

    keras.utils.set_random_seed(3)
    with place.scope():
        inputs = keras.Input((8, 8, 3))
        x = layers.Conv2D(16, 3, use_bias=False)(inputs)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
        x = layers.Dropout(0.3)(layers.GlobalAveragePooling2D()(x))
        model = keras.Model(inputs, layers.Dense(4)(x))
        optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
    trainer = jax_loop.Trainer(model, optimizer, loss, batches, decay=lambda step: 0.9, strategy=place)
    found = jax_loop.latest(folder)
    if found:
        trainer.restore(found)
    print("begin", trainer.step, flush=True)
    say = lambda each: print(each.step, each.loss, flush=True)
    trainer.run(30, folder=folder, every=4, report_every=1, report=say)
    """
)


def start(folder, hosts, host, port="-", **environment):
    return subprocess.Popen(
        [sys.executable, "-c", RUN, *map(str, (folder, port, hosts, host, 0))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
    )


def finish(*processes):
    """Lines of each."""
    outs = [process.communicate(timeout=120) for process in processes]
    for process, (_, errors) in zip(processes, outs, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return [out.splitlines() for out, _ in outs]


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def two(folder):
    port = free_port()
    return [start(folder, 2, host, port) for host in range(2)]


def last(folder):
    state = checkpoint.latest(folder)
    assert state.step == STEPS
    return state.arrays


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Of a run of two processes that is not disturbed."""
    folder = tmp_path_factory.mktemp("two")
    return folder, finish(*two(folder))
