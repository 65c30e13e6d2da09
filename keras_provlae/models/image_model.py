"""A Keras model of images with a loss of its own, in which every batch is checked."""

import inspect
from typing import Any

import keras
from keras import ops

from keras_provlae import replicas
from keras_provlae.models.dispatch import step_function
from keras_provlae.models.validation import (
    PIXEL_RULE,
    FiniteLoss,
    check_data,
    check_images,
    checked_while_read,
    readable_errors,
    require,
    without_autotuner,
)
from keras_provlae.optimizers import adam

OWN_LOSS_RULE = "The model computes its own loss (equation 11), every image with the same weight: leave out `{name}`."
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
            **kwargs: As `keras.Model.compile`, without `loss`. `jit_compile="auto"`, Keras's default, compiles with
                XLA where that is faster: on a GPU or TPU, and on JAX everywhere; `True` or `False` overrides it.

        Raises:
            ValueError: If `loss` is given: the model has its own.
        """
        if kwargs.get("loss") is not None:
            raise ValueError(OWN_LOSS_RULE.format(name="loss"))
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
        """As `keras.Model.fit`, on images alone or (images, labels); labels are not used."""
        x = self._checked_data(x, kwargs, "steps_per_epoch", given=args)
        if "validation_data" in kwargs:
            kwargs["validation_data"] = without_autotuner(kwargs["validation_data"])
        if hasattr(x, "element_spec") or inspect.isgenerator(x):
            kwargs.setdefault("shuffle", False)  # these shuffle themselves: Keras warns about its own default
        if len(args) < 5 and not isinstance(kwargs.get("callbacks"), keras.callbacks.CallbackList):
            kwargs["callbacks"] = [FiniteLoss(), *keras.tree.flatten(kwargs.get("callbacks") or [])]
        try:
            with readable_errors():
                return super().fit(x, *args, **kwargs)
        finally:
            self.is_guarded = False
            self._initial_epoch = None  # BackupAndRestore leaves it set: a second `fit` would do nothing

    def evaluate(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.evaluate`, on images alone or (images, labels); labels are not used."""
        x = self._checked_data(x, kwargs, "steps", given=args)
        with readable_errors():
            return super().evaluate(x, *args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As `keras.Model.predict`: the dict of `call` for many images, in batches."""
        x = self._checked_data(x, kwargs, "steps", given=args)
        with readable_errors():
            return super().predict(x, *args, **kwargs)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.train_on_batch`."""
        with readable_errors():
            return super().train_on_batch(*args, **kwargs)

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.test_on_batch`."""
        with readable_errors():
            return super().test_on_batch(*args, **kwargs)

    def _checked_data(self, x, kwargs, steps_name, given):
        # arguments given by position may hold the number of steps
        check_data(x, self.image_shape, steps=1 if given else kwargs.get(steps_name))
        for name in ("sample_weight", "class_weight"):
            if kwargs.get(name) is not None:
                raise ValueError(OWN_LOSS_RULE.format(name=name))  # Keras would drop it without targets
        x = checked_while_read(x) if keras.backend.backend() == "jax" or self.jit_compile else x
        return without_autotuner(x)

    def _checked_part(self, images):
        """A replica's part of the batch: TensorFlow has no gradient of a transposed convolution over no image."""
        number, count = ops.shape(images)[0], replicas.count()
        return images if count == 1 else require(images, number > 0, PART_RULE, number, count)

    def _checked(self, images):
        """The images, whose values are checked when they are known: now, or inside the step."""
        check_images(images, self.image_shape)
        images = ops.convert_to_tensor(images)
        if self._are_checked:
            return images
        low, high = ops.min(images), ops.max(images)
        return require(images, ops.logical_and(low >= 0.0, high <= 1.0), PIXEL_RULE, low, high)
