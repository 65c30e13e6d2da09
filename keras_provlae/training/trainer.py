"""A Keras model of images with its own loss: every batch is checked, and errors say what to do."""

import inspect
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_provlae.optimizers import adam
from keras_provlae.training import replicas
from keras_provlae.training.epoch_checks import EpochChecks
from keras_provlae.training.errors import InvalidImagesError
from keras_provlae.training.graph_checks import (
    checked_while_read,
    readable_errors,
    require,
    require_finite,
    require_pixels,
)
from keras_provlae.training.image_checks import (
    OWN_LOSS_RULE,
    check_data,
    check_images,
    check_validation_data,
    has_no_image,
    within_unit,
)
from keras_provlae.training.progress import ProgressBar

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
    """`keras.Model` with clear errors for bad images, and the paper's optimizer by default.

    A subclass has `image_shape` and computes its objective in `compute_loss`, where it passes the loss through
    `check_loss`. In `call`, it passes the images through `checked`.

    Attributes:
        check_loss: Function `(loss, reconstruction, kl) -> loss` of `training.graph_checks`. By default a loss that is
            not finite stops the step; a callback that deals with such losses sets `leave_to_callback` in
            `on_train_begin`, for one `fit`.
    """

    check_loss: Callable = staticmethod(require_finite)
    train_function: Any  # Keras makes it

    # Two places for faster equivalents, installed from outside: see `keras_provlae.acceleration`.
    train_function_of: Callable = staticmethod(lambda model, function: function)
    reads: Callable = staticmethod(lambda data: data)

    def compile(self, optimizer: keras.Optimizer | str | None = None, **kwargs: Any) -> None:
        """As `keras.Model.compile`; without an optimizer, the `default_optimizer`.

        Args:
            optimizer: A Keras optimizer; `None` is the paper's Adam with learning rate 5e-4 and epsilon 1e-8 (3e-4
                and weight decay 1e-6 in a `TeacherStudentVAE`), as `optimizers.adam` makes it.
            **kwargs: As `keras.Model.compile`, without `loss` and `metrics`. `jit_compile="auto"`, Keras's default,
                compiles with XLA where that is faster: on a GPU or TPU, and on JAX everywhere.

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

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))

    # === One step ===

    def step_key(self) -> tuple:
        """State that a trace of the training step depends on; a change means a new trace."""
        return (self.check_loss,)

    def step_inputs(self, images: Any) -> Any:
        """Returns the inputs that a training step calls the model with."""
        return images

    def make_train_function(self, force: bool = False) -> None:
        """As Keras does, and anew when `step_key` has changed."""
        key = self.step_key()
        force = force or key != self.traced_key
        self.traced_key = key
        before = self.train_function
        super().make_train_function(force=force)
        if self.train_function is not before:
            self.train_function = self.train_function_of(self, self.train_function)

    traced_key: tuple | None = None

    def train_step(self, *args: Any) -> Any:
        """As Keras does; on TensorFlow nothing of it runs before a good batch is there."""
        *state, data = args  # JAX passes its state first
        images, _, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        data = (self.step_inputs(images), None, sample_weight)
        if keras.backend.backend() != "tensorflow":
            return super().train_step(*state, data)
        import tensorflow as tf

        # or the `next` after the last batch of a data set of unknown length would count as a step
        with tf.control_dependencies([self.checked(images), _part_of_replica(images)]):
            return replicas.reducible(super().train_step(data))

    def test_step(self, *args: Any) -> Any:
        logs = super().test_step(*args)
        return replicas.reducible(logs) if keras.backend.backend() == "tensorflow" else logs

    def checked(self, images: Any) -> Any:
        """Returns the images, checked: at once where their values are known, else when the step runs."""
        check_images(images, self.image_shape)
        return within_unit(require_pixels(ops.convert_to_tensor(images)))

    # === Whole passes ===

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """As `keras.Model.fit`, on images alone or (images, labels); labels are not used.

        The progress bar shows the loss, the ELBO, the stage and alpha; `History` has everything.
        """
        given = self._checked_arguments("fit", x, args, kwargs)
        given["validation_data"] = self._checked_validation(given)
        if hasattr(given["x"], "element_spec") or inspect.isgenerator(x) or getattr(x, "shuffles_itself", False):
            given.setdefault("shuffle", False)  # these shuffle themselves: Keras warns about its own default
        given["callbacks"] = _with_callbacks(given)
        try:
            with readable_errors():
                return super().fit(**given)
        finally:
            self.__dict__.pop("check_loss", None)  # a callback's choice ends with its `fit`
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
        """The arguments of `fit`, `evaluate` or `predict` by name, after a check of the images among them."""
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
        return {**given, "x": self.reads(x)}

    def _checked_validation(self, given):
        """The validation data of `fit`, checked, for the callbacks that need them as well."""
        data, frequency = given.get("validation_data"), given.get("validation_freq", 1)
        for callback in keras.tree.flatten(given.get("callbacks") or []):
            if getattr(callback, "needs_validation", False) and (
                frequency != 1 or (data is None and not given.get("validation_split"))
            ):
                raise ValueError(VALIDATION_RULE.format(name=type(callback).__name__, frequency=frequency, data=data))
        if data is None:
            return None
        return self.reads(check_validation_data(data, self.image_shape, given.get("validation_steps")))


def _part_of_replica(images):
    """A replica's part of the batch: TensorFlow has no gradient of a transposed convolution over no image."""
    number, count = ops.shape(images)[0], replicas.count()
    return images if count == 1 else require(images, number > 0, InvalidImagesError, PART_RULE, number, count)


def _with_callbacks(given):
    """The callbacks, between the checks of every epoch and the progress bar."""
    callbacks = given.get("callbacks")
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    callbacks = keras.tree.flatten(callbacks or [])
    has_bar = any(isinstance(callback, keras.callbacks.ProgbarLogger) for callback in callbacks)
    bar = [] if has_bar or given.get("verbose", "auto") == 0 else [ProgressBar()]
    return [EpochChecks(), *callbacks, *bar]
