"""A Keras model of images with a loss of its own, in which every batch is checked."""

import inspect
from typing import Any

import keras
from keras import ops

from keras_provlae import replicas
from keras_provlae.models.dispatch import step_function
from keras_provlae.models.progress import ProgressBar
from keras_provlae.models.validation import (
    OWN_LOSS_RULE,
    PIXEL_RULE,
    EpochChecks,
    check_data,
    check_images,
    check_validation_data,
    checked_while_read,
    has_no_image,
    in_range,
    readable_errors,
    require,
    within_unit,
    without_autotuner,
)
from keras_provlae.optimizers import adam

METRICS_RULE = (
    "`compile` takes no `{name}`: the model logs its own terms. For scores during `fit` add "
    "`callbacks.DisentanglementMonitor(ground_truth)` or `callbacks.InformationFlow(images)`; afterwards call "
    "`metrics.evaluate(model, ground_truth)`. Received: {name}={value!r}."
)
VALIDATION_RULE = (
    "{name} follows the ELBO of validation images, every epoch: pass `validation_data` to `fit`, and "
    "`validation_freq=1`. Received: validation_data={data}, validation_freq={frequency}."
)
PART_RULE = (
    "Every replica must get an image of every batch that it trains on. Received: {low} images for one of {high} "
    "replicas, of the last, smaller batch of a pass. Leave that out: `tf_dataset(..., drop_remainder=True)`, or "
    "`ds.batch(size, drop_remainder=True)`."
)


class ImageModel(keras.Model):
    """`keras.Model` with clear errors for bad images, and the optimizer of its source by default.

    A subclass has `image_shape` and its objective in `compute_loss`, and passes what
    `call` is given through `_checked`.
    """

    is_guarded = False  # whether a callback of this `fit` sees to losses that are not finite
    _are_checked = False  # whether a step has checked the images of `call` before it

    def compile(self, optimizer: keras.Optimizer | str | None = None, **kwargs: Any) -> None:
        """As `keras.Model.compile`; without an optimizer, the `default_optimizer`.

        Args:
            optimizer: A Keras optimizer; `None` is the paper's Adam with learning rate 5e-4 and epsilon 1e-8 (3e-4
                and weight decay 1e-6 in a `TeacherStudentVAE`), as `optimizers.adam` makes it.
            **kwargs: As `keras.Model.compile`, without `loss` and `metrics`. `jit_compile="auto"`, Keras's default,
                compiles with XLA where that is faster: on a GPU or TPU, and on JAX everywhere; `True` or `False`
                overrides it.

        Raises:
            ValueError: If a loss or metrics are given: the model has its own.
        """
        for name in ("loss", "loss_weights"):
            if kwargs.get(name) is not None:
                raise ValueError(OWN_LOSS_RULE.format(name=name))
        for name in ("metrics", "weighted_metrics"):
            if kwargs.get(name):
                raise ValueError(METRICS_RULE.format(name=name, value=kwargs[name]))
        if optimizer is None:
            optimizer = self.default_optimizer()
        super().compile(optimizer=optimizer, **kwargs)
        self.optimizer.build(self.trainable_variables)  # or `load_weights` would skip Adam's moments

    @staticmethod
    def default_optimizer() -> keras.Optimizer:
        """The paper's Adam."""
        return adam(5e-4, epsilon=1e-8)

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))

    def make_train_function(self, force=False):
        """As Keras does; for one device of TensorFlow without XLA, with less between two steps."""
        before = self.train_function
        super().make_train_function(force=force)
        if self.train_function is not before and self._steps_alone():
            self.train_function = step_function(self.train_step, otherwise=self.train_function)

    def _steps_alone(self):
        """Whether a training step is one graph on one device of TensorFlow, computed as it is."""
        if keras.backend.backend() != "tensorflow" or self.run_eagerly or self.jit_compile:
            return False
        import tensorflow as tf

        if tf.config.functions_run_eagerly() or tf.distribute.has_strategy():
            return False
        return self.steps_per_execution == 1 and self.distribute_strategy is tf.distribute.get_strategy()

    def train_step(self, *args):
        """The backend's own step; in TensorFlow nothing of it runs before a good batch is there."""
        if keras.backend.backend() != "tensorflow":
            return super().train_step(*args)
        import tensorflow as tf

        images, _, _ = keras.utils.unpack_x_y_sample_weight(args[0])
        # else the last, empty `next` of a data set of unknown length would count as a step
        with tf.control_dependencies([self._checked(images), self._checked_part(images)]):
            self._are_checked = True
            try:
                return replicas.reducible(super().train_step(*args))
            finally:
                self._are_checked = False

    def test_step(self, *args):
        """The backend's own step."""
        logs = super().test_step(*args)
        return replicas.reducible(logs) if keras.backend.backend() == "tensorflow" else logs

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """As `keras.Model.fit`, on images alone or (images, labels); labels are not used.

        The progress bar shows the loss, the ELBO, the stage and alpha; `History` has everything.
        """
        given = self._checked_arguments("fit", x, args, kwargs)
        given["validation_data"] = self._check_validation(given)
        if hasattr(given["x"], "element_spec") or inspect.isgenerator(given["x"]):
            given.setdefault("shuffle", False)  # these shuffle themselves: Keras warns about its own default
        given["callbacks"] = _with_callbacks(given)
        try:
            with readable_errors():
                return super().fit(**given)
        finally:
            self.is_guarded = False
            self._initial_epoch = None  # BackupAndRestore leaves it set: a second `fit` would do nothing

    def evaluate(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.evaluate`, on images alone or (images, labels); labels are not used."""
        given = self._checked_arguments("evaluate", x, args, kwargs)
        given["callbacks"] = _with_callbacks(given)
        with readable_errors():
            return super().evaluate(**given)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As `keras.Model.predict`: the dict of `call` for many images, in batches; no rows for no image."""
        given = self._checked_arguments("predict", x, args, kwargs)
        if has_no_image(x):
            outputs = self(ops.zeros((0, *self.image_shape)), training=False)
            return keras.tree.map_structure(ops.convert_to_numpy, outputs)
        with readable_errors():
            return super().predict(**given)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.train_on_batch`."""
        with readable_errors():
            return super().train_on_batch(*args, **kwargs)

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.test_on_batch`."""
        with readable_errors():
            return super().test_on_batch(*args, **kwargs)

    def _checked_arguments(self, method, x, args, kwargs):
        """The arguments of `fit`, `evaluate` or `predict` by name, of which the images are checked."""
        given = inspect.signature(getattr(keras.Model, method)).bind(self, x, *args, **kwargs).arguments
        del given["self"]
        given |= given.pop("kwargs", {})
        if given.get("_use_cached_eval_dataset"):
            return given  # `fit` has checked its validation data
        check_data(x, self.image_shape, given.get("steps_per_epoch" if method == "fit" else "steps"), method)
        for name in ("sample_weight", "class_weight"):
            if given.get(name) is not None:
                raise ValueError(OWN_LOSS_RULE.format(name=name))  # Keras would drop it without targets
        x = checked_while_read(x) if keras.backend.backend() == "jax" or self.jit_compile else x
        return {**given, "x": without_autotuner(x)}

    def _check_validation(self, given):
        """Checks what `fit` validates on, and that the callbacks that need it get it; returns the data."""
        data, frequency = given.get("validation_data"), given.get("validation_freq", 1)
        for callback in keras.tree.flatten(given.get("callbacks") or []):
            if getattr(callback, "needs_validation", False) and (
                frequency != 1 or (data is None and not given.get("validation_split"))
            ):
                raise ValueError(VALIDATION_RULE.format(name=type(callback).__name__, frequency=frequency, data=data))
        if data is None:
            return None
        return without_autotuner(check_validation_data(data, self.image_shape, given.get("validation_steps")))

    def _checked_part(self, images):
        """A replica's part of the batch: TensorFlow has no gradient of a transposed convolution over no image."""
        number, count = ops.shape(images)[0], replicas.count()
        return images if count == 1 else require(images, number > 0, PART_RULE, number, count)

    def _checked(self, images):
        """The images, whose values are checked when they are known: now, or inside the step."""
        check_images(images, self.image_shape)
        images = ops.convert_to_tensor(images)
        if not self._are_checked:
            low, high = ops.min(images, initial=1.0), ops.max(images, initial=0.0)
            images = require(images, in_range(low, high), PIXEL_RULE, low, high)
        return within_unit(images)


def _with_callbacks(given):
    """The callbacks, between the checks of every epoch and the progress bar."""
    callbacks = given.get("callbacks")
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    callbacks = keras.tree.flatten(callbacks or [])
    has_bar = any(isinstance(callback, keras.callbacks.ProgbarLogger) for callback in callbacks)
    bar = [] if has_bar or given.get("verbose", "auto") == 0 else [ProgressBar()]
    return [EpochChecks(), *callbacks, *bar]
