"""Signatures of an exported model: functions from TensorFlow tensors to flat dicts of tensors."""

from typing import Any

import tensorflow as tf

from keras_provlae.export.image_bytes import CHANNELS, image_decoder
from keras_provlae.training.image_checks import in_range

PIXEL_RULE = "`images` must hold finite values in [0, 1], or uint8 values. Lowest and highest value received:"


def traced_signatures(model: Any) -> tuple[tf.Module, dict[str, Any]]:
    """Traces the signatures of an exported model.

    Functions of images are traced twice, for float32 in [0, 1] and for uint8. A signature has one dtype, so uint8 has
    its own, `<name>_uint8`; the attribute `<name>` of what `tf.saved_model.load` returns takes both. Models of images
    with 1 or 3 channels also get signatures for PNG and JPEG files, `<name>_image_bytes`. The networks are traced once.

    Args:
        model: A `LadderVAE` on the TensorFlow backend.

    Returns:
        `(module, signatures)`: a `tf.Module` with the functions and the variables they read (not optimizer, metrics
        or seeds), and a dict from name to concrete function.
    """
    functions = _Functions(model)
    codes = tf.TensorSpec((None, len(functions.rung_of_latent)), tf.float32, "codes")
    values = tf.TensorSpec((None,), tf.float32, "values")
    n, seed, rung, latent = (tf.TensorSpec((), tf.int32, name) for name in ("n", "seed", "rung", "latent"))
    specs = {"decode": [codes], "sample": [n, seed]}
    for dtype, suffix in ((tf.float32, ""), (tf.uint8, "_uint8")):
        images, others = (tf.TensorSpec((None, *model.image_shape), dtype, name) for name in ("images", "others"))
        specs[f"encode{suffix}"] = specs[f"reconstruct{suffix}"] = [images]
        specs[f"sample_rung{suffix}"] = [images, rung, n, seed]
        specs[f"swap_rung{suffix}"] = [images, others, rung]
        specs[f"traverse{suffix}"] = [images, latent, values]
    if functions.decode_batch is not None:
        files = [tf.TensorSpec((None,), tf.string, "image_bytes")]
        specs["encode_image_bytes"] = specs["reconstruct_image_bytes"] = files

    module, signatures = tf.Module(name="keras_provlae"), {}
    for name, inputs in specs.items():
        function_name = name.removesuffix("_uint8")
        if not hasattr(module, function_name):
            setattr(module, function_name, tf.function(getattr(functions, function_name), autograph=False))
        signatures[name] = getattr(module, function_name).get_concrete_function(*inputs)
    signatures["serving_default"] = signatures["reconstruct"]
    module.used_variables = used_variables(*signatures.values())
    return module, signatures


def used_variables(*functions: Any) -> list[tf.Variable]:
    """Returns the variables that concrete functions read, each once."""
    return list({variable.ref(): variable for function in functions for variable in function.variables}.values())


def described(signatures: dict[str, Any]) -> dict[str, Any]:
    """Returns the inputs and outputs of every signature, with dtype and shape; `None` is any size."""

    def specs(tensors):
        return {name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()} for name, spec in tensors.items()}

    return {
        name: {
            "inputs": specs({spec.name: spec for spec in function.structured_input_signature[0]}),
            "outputs": specs(function.structured_outputs),
        }
        for name, function in sorted(signatures.items())
    }


class _Functions:
    """The functions behind the signatures; `images` are float32 or uint8."""

    def __init__(self, model):
        self.image_shape = model.image_shape
        images = tf.TensorSpec((None, *model.image_shape), tf.float32)
        codes = tf.TensorSpec((None, model.rung_slices[-1][1].stop), tf.float32)
        self.model_encode = tf.function(model.encode, [images], autograph=False)
        self.model_decode = tf.function(model.decode, [codes], autograph=False)
        self.decode_batch = image_decoder(model.image_shape) if model.image_shape[-1] in CHANNELS else None
        self.rung_slices = model.rung_slices
        self.rung_of_latent = [rung for rung, z in self.rung_slices for _ in range(z.start, z.stop)]

    def encode(self, images):
        mean, log_var = self.model_encode(self._pixels(images))
        outputs = {"mean": mean, "log_var": log_var}
        for rung, columns in self.rung_slices:
            outputs[f"mean_rung_{rung}"] = mean[:, columns]
            outputs[f"log_var_rung_{rung}"] = log_var[:, columns]
        return outputs

    def decode(self, codes):
        codes = tf.ensure_shape(codes, (None, len(self.rung_of_latent)))
        codes = _require(codes, _is_finite(codes), "`codes` must be finite, not NaN or infinite.")
        images = self.model_decode(codes)
        return {"images": _require(images, _is_finite(images), "`codes` must be smaller: the images are not finite.")}

    def reconstruct(self, images):
        return self.decode(self._mean(images))

    def encode_image_bytes(self, image_bytes):
        return self.encode(self.decode_batch(image_bytes))

    def reconstruct_image_bytes(self, image_bytes):
        return self.reconstruct(self.decode_batch(image_bytes))

    def sample(self, n, seed):
        return self.decode(self._drawn(_at_least_one(n), seed))

    def sample_rung(self, images, rung, n, seed):
        """Returns `n` images per input image, with the same `n` codes of the rung for each."""
        mean, n = self._mean(images), _at_least_one(n)
        held, drawn = tf.repeat(mean, n, axis=0), tf.tile(self._drawn(n, seed), (tf.shape(mean)[0], 1))
        return self.decode(tf.where(self._is_of(rung), drawn, held))

    def swap_rung(self, images, others, rung):
        mean, other = self._mean(images), self._mean(others)
        sizes = tf.shape(mean)[0], tf.shape(other)[0]
        rule = "`images` and `others` must be batches of the same size. Received:"
        other = _require(other, sizes[0] == sizes[1], rule, *sizes)
        return self.decode(tf.where(self._is_of(rung), other, mean))

    def traverse(self, images, latent, values):
        """Returns every image with every value of one latent, image by image."""
        last = len(self.rung_of_latent) - 1
        rule = f"`latent` must be 0 .. {last}, a column of the code. Received:"
        latent = _require(latent, (latent >= 0) & (latent <= last), rule, latent)
        values = _require(values, _is_finite(values), "`values` must be finite, not NaN or infinite.")
        mean = self._mean(images)
        held, swept = tf.repeat(mean, tf.size(values), axis=0), tf.tile(values[:, None], (tf.shape(mean)[0], 1))
        return self.decode(tf.where(tf.range(last + 1) == latent, swept, held))

    def _mean(self, images):
        mean, _ = self.model_encode(self._pixels(images))
        return mean

    def _pixels(self, images):
        images = tf.ensure_shape(images, (None, *self.image_shape))
        if images.dtype == tf.uint8:
            return tf.cast(images, tf.float32) / 255.0
        low, high = tf.reduce_min(images), tf.reduce_max(images)
        return _require(images, in_range(low, high), PIXEL_RULE, low, high)  # holds for an empty batch

    def _drawn(self, n, seed):
        """Draws codes from the prior; folds the seed as Keras does in `model.sample(n, seed=seed)`."""
        seed = tf.math.floormod(seed, tf.int32.max - 1)
        return tf.random.stateless_normal((n, len(self.rung_of_latent)), seed=tf.stack([seed, 0]))

    def _is_of(self, rung):
        rungs = len(self.rung_slices)
        rule = f"`rung` must be 1 .. {rungs}. Received:"
        return tf.constant(self.rung_of_latent) == _require(rung, (rung >= 1) & (rung <= rungs), rule, rung)


def _is_finite(tensor):
    return tf.reduce_all(tf.math.is_finite(tensor))


def _at_least_one(n):
    return _require(n, n >= 1, "`n` must be at least 1. Received:", n)


def _require(tensor, condition, rule, *received):
    """Returns the tensor, with an assertion that runs before anything reads it."""
    with tf.control_dependencies([tf.debugging.Assert(condition, [rule, *received])]):
        return tf.identity(tensor)
