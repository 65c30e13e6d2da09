"""Conversion of the authors' TensorFlow 1 weights to a keras_provlae model.

Scopes: `qh<l>` is the trunk, `qladder<l>` the head of rung l, `gen<l>` m_l and f_l^d, `gen0` the output layer. Inside a
scope, layers of the same kind are numbered in data-flow order: `dense`, `dense_1`, ...; the last two `dense` layers of
a head are the mean and the log variance.
"""

import collections
import os
import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_provlae.lazy_tensorflow import check_tensorflow, tf
from keras_provlae.models.ladder_vae import LadderVAE

BATCH_NORM_EPSILON = 1e-3
_OPTIMIZER_VARIABLE = re.compile(r"(/Adam(_\d+)?$)|((^|/)beta[12]_power(_\d+)?$)|((^|/)global_step$)")


def load_authors_weights(model: keras.Model, source: Mapping[str, Any] | str | os.PathLike) -> None:
    """Loads weights of the authors' released program into a model.

    Args:
        model: A `LadderVAE` with a matching architecture: preset `"dsprites"` or `"shapes3d"` for the small network,
            `"celeb_a"` for the large one.
        source: Dict {variable name: array}, or the path of a TensorFlow 1 checkpoint, whose optimizer variables are
            ignored. Moving means and variances are optional; they are folded into the affine layers.

    Raises:
        ValueError: If a variable is unknown, missing, not finite or has the wrong shape. The message lists all
            problems, and the model keeps its weights.
        TypeError: If `model` is not a `LadderVAE`.
        FileNotFoundError: If there is no readable checkpoint at the path.

    Example:
        >>> import keras_provlae as kp
        >>> model = kp.ProgressiveVAE.from_preset("dsprites")
        >>> kp.conversion.load_authors_weights(model, {})
        Traceback (most recent call last):
        ...
        ValueError: These are not the weights of this model.
        ...

    Source: the authors' released program.
    """
    if not isinstance(model, LadderVAE):
        raise TypeError(f"`model` must be a LadderVAE, such as ProgressiveVAE. Received: {type(model).__name__}.")
    arrays = dict(source) if isinstance(source, Mapping) else _read_checkpoint(source)
    arrays = {name.removesuffix(":0"): np.asarray(array) for name, array in arrays.items()}
    variables = authors_variables(model)
    statistics = _moving_statistics(variables)
    _check(arrays, variables, statistics)
    _fold_statistics(arrays, statistics)
    for name, variable in variables.items():
        variable.assign(arrays[name])


def authors_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Maps the authors' variable names to the trainable variables of a model.

    Args:
        model: A `LadderVAE`.

    Returns:
        Dict {authors' name: `keras.Variable`}.

    Source: the authors' released program.
    """
    spec = model.spec
    names: dict[str, keras.Variable] = {}
    for index in range(1, len(spec.stem) + 1):
        names |= _scope(f"stem{index}", model.encoder, [f"stem_{index}"])
        names |= _scope(f"genstem{index}", model.decoder, [f"stem_{index}"])
    for rung in range(1, spec.num_rungs + 1):
        convs = [f"head_{rung}_conv_{i + 1}" for i in range(len(spec.head_convs[rung - 1]))]
        dense = [f"head_{rung}_dense_{i + 1}" for i in range(len(spec.head_dense[rung - 1]))]
        maps = [f"m_{rung}_dense_{i + 1}" for i in range(len(spec.map_dense[rung - 1]))]
        transposed = [f"g_{rung}_conv_{i + 1}" for i in range(len(spec.decoder_convs[rung - 1]))]
        names |= _scope(f"qh{rung}", model.encoder, [f"h_{rung}"])
        names |= _scope(f"qladder{rung}", model.encoder, [*convs, *dense, f"mean_{rung}", f"log_var_{rung}"])
        names |= _scope(f"gen{rung}", model.decoder, [*maps, f"m_{rung}", *transposed])
    return names | _scope("gen0", model.decoder, ["logits"])


def _scope(scope, network, layer_names):
    """Numbers the layers of a variable scope like TensorFlow 1."""
    kinds = {"Dense": "dense", "Conv2D": "conv2d", "Conv2DTranspose": "conv2d_transpose"}
    layers = {layer.name: layer for layer in network.layers}
    counts = collections.Counter()
    names = {}

    def numbered(kind):
        counts[kind] += 1
        return f"{scope}/{kind}" if counts[kind] == 1 else f"{scope}/{kind}_{counts[kind] - 1}"

    for layer_name in layer_names:
        layer = layers[layer_name]
        name = numbered(kinds[type(layer).__name__])
        names |= {f"{name}/kernel": layer.kernel, f"{name}/bias": layer.bias}
        affine = layers.get(f"{layer_name}_affine")
        if affine is not None:
            name = numbered("batch_normalization")
            names |= {f"{name}/gamma": affine.gain, f"{name}/beta": affine.offset}
    return names


def _moving_statistics(variables):
    return {
        name.replace("/gamma", f"/moving_{statistic}"): variable
        for name, variable in variables.items()
        if name.endswith("/gamma")
        for statistic in ("mean", "variance")
    }


def _check(arrays, variables, statistics):
    known = {**variables, **statistics}
    problems = [f"missing: {name} {tuple(variables[name].shape)}" for name in variables if name not in arrays]
    problems += [f"unknown: {name} {arrays[name].shape}" for name in arrays if name not in known]
    problems += [
        f"wrong shape: {name} is {arrays[name].shape}, must be {tuple(known[name].shape)}"
        for name in arrays
        if name in known and arrays[name].shape != tuple(known[name].shape)
    ]
    problems += [f"not finite: {name}" for name in arrays if not np.isfinite(arrays[name]).all()]
    if problems:
        raise ValueError(
            "These are not the weights of this model. Build it from the preset that they were trained with. "
            f"Received {len(arrays)} variables with {len(problems)} problems:\n  " + "\n  ".join(problems)
        )


def _fold_statistics(arrays, statistics):
    """Folds the moving mean and variance of batch normalization into the affine layer's gain and offset."""
    for name in {name.rsplit("/", 1)[0] for name in statistics}:
        mean = arrays.get(f"{name}/moving_mean", 0.0)
        variance = arrays.get(f"{name}/moving_variance", 1.0)
        gain = arrays[f"{name}/gamma"]
        arrays[f"{name}/beta"] = arrays[f"{name}/beta"] - gain * mean / np.sqrt(variance + BATCH_NORM_EPSILON)
        arrays[f"{name}/gamma"] = gain * np.sqrt((1 + BATCH_NORM_EPSILON) / (variance + BATCH_NORM_EPSILON))


def _read_checkpoint(path):
    check_tensorflow("A TensorFlow 1 checkpoint")
    try:
        reader = tf.train.load_checkpoint(str(path))
    except (tf.errors.OpError, ValueError) as error:
        raise FileNotFoundError(f"No TensorFlow checkpoint can be read at {path}: {error}") from None
    return {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if not _OPTIMIZER_VARIABLE.search(name)
    }
