"""Every listed name, counted a second time: from the operations of the function that TensorFlow traces."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from scaling_rules.cost import cost
from scaling_rules.shapes import tensors
from zoo import graph, inspection, registry


def recount(model, shape):
    """(MACs, elements of kernels) of the convolutions and matrix products in the traced forward pass.

    Only symbolic shapes are looked at: no forward pass runs, however large the network.
    """
    traced = tf.function(lambda x: model(x, training=False)).get_concrete_function(
        tf.TensorSpec((1, *shape), tf.float32)
    )
    macs = kernels = 0
    for operation in traced.graph.get_operations():
        if operation.type not in ("Conv2D", "DepthwiseConv2dNative", "MatMul"):
            continue
        kernel, output = operation.inputs[1].shape, operation.outputs[0].shape
        elements = math.prod(kernel)
        kernels += elements
        # a convolution uses each element once a pixel, a matrix product once
        macs += elements * (output[1] * output[2] if operation.type != "MatMul" else 1)
    return macs, kernels


@pytest.mark.parametrize("name", registry.NAMES)
def test_the_traced_function_costs_what_the_spec_says(name):
    spec = registry.architecture(name)
    table = tensors(spec)
    # one shared zero, stretched: the largest network has 480 million weights
    model = graph.build(spec, values={path: np.broadcast_to(np.float32(0), t.shape) for path, t in table.items()})
    total = cost(spec)
    macs, kernels = recount(model, spec.input)
    assert macs == total.macs
    assert kernels == sum(math.prod(t.shape) for path, t in table.items() if path.endswith("kernel"))
    assert sum(math.prod(v.shape) for v in model.trainable_weights) == total.params
    statistics = [v for v in model.non_trainable_weights if "moving" in v.name]
    assert sum(math.prod(v.shape) for v in statistics) == total.buffers
    variables = inspection.variables(model)
    assert list(variables) == list(table)
    assert all(tuple(variables[path].shape) == t.shape for path, t in table.items())
    keras.backend.clear_session()
