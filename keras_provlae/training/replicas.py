"""What a replica of `tf.distribute` must know of the others: their number, and how many images each has.

Elsewhere there is one: JAX computes as if the devices of `keras.distribution` were a single one, PyTorch has no such
thing in Keras. With one replica the functions return what they are given, so that a single device computes as ever.
"""

from typing import Any

import keras
from keras import ops


def count() -> int:
    """How many replicas take this step together; 1 outside of a step."""
    replica = _replica()
    return 1 if replica is None else replica.num_replicas_in_sync


def batch_mean(values: Any) -> Any:
    """The mean of a batch; 0 for the empty one that is left for a replica at the end of a pass.

    Args:
        values: Float tensor `(batch, ...)`.

    Returns:
        Float tensor `(...)`: a scalar for `(batch,)`.
    """
    if _replica() is None:
        return ops.mean(values, axis=0)
    return ops.sum(values, axis=0) / ops.cast(ops.maximum(ops.shape(values)[0], 1), values.dtype)


def share_of_loss(loss: Any, batch: Any) -> Any:
    """What a replica's mean loss adds to that of the global batch, of which every image weighs the same.

    Replicas sum their gradients, so that of each is weighed by its part of the images: the last batch of a pass may
    be split unevenly. The value is divided by their number alone, which Keras undoes before it weighs the loss that
    it logs by the images.

    Args:
        loss: Float tensor, scalar: the mean over this replica's images.
        batch: Int tensor, scalar: how many they are.

    Returns:
        Float tensor, scalar: `loss` where there is one replica.
    """
    replica = _replica()
    if replica is None:
        return loss
    part = ops.cast(batch, loss.dtype)
    weighed = loss * part / replica.all_reduce("SUM", part)
    return weighed + ops.stop_gradient(loss / replica.num_replicas_in_sync - weighed)


def reducible(logs: dict[str, Any]) -> dict[str, Any]:
    """The logs of a step in the shape in which Keras can average them over workers: it takes scalars for vectors there.

    Args:
        logs: {name: scalar}.

    Returns:
        {name: tensor `(1,)`} in a worker of `tf.distribute.MultiWorkerMirroredStrategy`, else `logs`.
    """
    replica = _replica()
    if replica is None:
        return logs
    import tensorflow as tf

    if not isinstance(replica.strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return logs
    return {name: ops.reshape(value, (1,)) for name, value in logs.items()}


class SeedGenerator(keras.random.SeedGenerator):
    """`keras.random.SeedGenerator` with a stream for each replica, which would all draw the same noise otherwise.

    Its state, which is saved, is one for all of them. The first replica draws what a single device would.

    Args:
        *args: As `keras.random.SeedGenerator`.
        **kwargs: As `keras.random.SeedGenerator`.

    Example:
        >>> SeedGenerator(3).next().numpy().tolist()
        [3, 0]
    """

    def next(self, ordered: bool = True) -> Any:
        """The seed of the next draw: an integer tensor `(2,)`."""
        seed, replica = super().next(ordered), _replica()
        if replica is None:
            return seed
        import tensorflow as tf

        number = replica.replica_id_in_sync_group
        folded = tf.cast(tf.random.experimental.stateless_fold_in(seed, number), seed.dtype)
        return tf.where(tf.equal(number, 0), seed, folded)


def _replica():
    """The context of this replica of `tf.distribute`; `None` where there are no others."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    replica = tf.distribute.get_replica_context()
    return replica if replica is not None and replica.num_replicas_in_sync > 1 else None
