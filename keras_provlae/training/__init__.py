"""Safe training of any image model: the trainer, its checks, replicas and typed errors."""

from keras_provlae.training.errors import InvalidImagesError, NonFiniteLossError

__all__ = ["InvalidImagesError", "NonFiniteLossError"]
