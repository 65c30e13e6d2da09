"""A growing model whose losses a test sets: real counters, trackers, optimizer and noise, but no training."""

import keras
import numpy as np
from keras import ops

import keras_provlae as kp


class ScriptedVAE(kp.ProgressiveVAE):
    """Logs the terms held by its weight `terms` and moves every kind of state at each step.

    A step costs milliseconds, so that a test can run real `fit` calls and know every mean that it must see.

    Attributes:
        terms: The reconstruction and the KL of each rung, deepest first, in nats per image.
        trained: A weight that depends on all the batches so far and on their order.
    """

    def __init__(self, num_rungs=2, terms=None, run_eagerly=True, **settings):
        least = {"channels": 1, "dense": None, "head_convs": [()] * num_rungs, "decoder_affine": False}
        super().__init__((8, 8, 1), num_rungs, latent_dim=2, **least)
        self.terms.assign([100.0, *[2.0] * num_rungs] if terms is None else terms)
        self.compile(run_eagerly=run_eagerly, **settings)

    def build(self, input_shape):
        super().build(input_shape)
        self.terms = self.add_weight(shape=(1 + self.num_rungs,), trainable=False, name="terms")
        self.trained = self.add_weight(shape=(), initializer="zeros", trainable=False, name="trained")

    def train_step(self, data):
        images, *_ = keras.utils.unpack_x_y_sample_weight(data)
        self.trained.assign(self.trained / 2 + ops.mean(images))
        self.optimizer.iterations.assign_add(1)
        self.sampling.seed_generator.next()
        loss = self._logged_loss(images)
        self.check_loss(loss, *self._reconstruction_and_kl())
        self.iteration_variable.assign_add(1)
        return self.get_metrics_result()

    def test_step(self, data):
        images, *_ = keras.utils.unpack_x_y_sample_weight(data)
        self._logged_loss(images)
        return self.get_metrics_result()

    def _reconstruction_and_kl(self):
        return self.terms[0], ops.sum(self.terms[1:])

    def _logged_loss(self, images):
        (reconstruction, kl), batch = self._reconstruction_and_kl(), ops.shape(images)[0]
        self._loss_tracker.update_state(reconstruction + kl, sample_weight=batch)
        self._track(reconstruction, self.terms[1:], {}, batch)
        return reconstruction + kl


class SetTerms(keras.callbacks.Callback):
    """Sets the reconstruction before each step, by a function of the iteration."""

    def __init__(self, reconstruction):
        super().__init__()
        self.reconstruction = reconstruction

    def on_train_batch_begin(self, batch, logs=None):
        terms = np.array(self.model.terms)
        terms[0] = self.reconstruction(self.model.iteration)
        self.model.terms.assign(terms)
