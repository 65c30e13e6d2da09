"""Loss scaling, logs and noise across the replicas of `tf.distribute`.

Elsewhere there is one replica: JAX treats the devices of `keras.distribution` as one, and Keras has no replicas on
PyTorch. With one replica these functions return their arguments unchanged.
"""

from typing import Any

import keras
from keras import ops


def count() -> int:
    """Number of replicas that take this step together; 1 outside a step."""
    replica = _replica()
    return 1 if replica is None else replica.num_replicas_in_sync


def batch_mean(values: Any) -> Any:
    """Mean over a batch; 0 for an empty batch, which a replica may get at the end of a pass.

    Args:
        values: Float tensor `(batch, ...)`.

    Returns:
        Float tensor `(...)`: a scalar for `(batch,)`.
    """
    if _replica() is None:
        return ops.mean(values, axis=0)
    return ops.sum(values, axis=0) / ops.cast(ops.maximum(ops.shape(values)[0], 1), values.dtype)


def share_of_loss(loss: Any, batch: Any) -> Any:
    """Scales a replica's mean loss to its share of the global batch, where all images have the same weight.

    Replicas sum their gradients, so each gradient is weighted by the replica's share of the images: the last batch of a
    pass may be split unevenly. The value is only divided by the number of replicas, because Keras undoes that before it
    weights the logged loss by the images.

    Args:
        loss: Float tensor, scalar: the mean over this replica's images.
        batch: Int tensor, scalar: the number of these images.

    Returns:
        Float tensor, scalar: `loss` if there is one replica.
    """
    replica = _replica()
    if replica is None:
        return loss
    part = ops.cast(batch, loss.dtype)
    weighted = loss * part / replica.all_reduce("SUM", part)
    return weighted + ops.stop_gradient(loss / replica.num_replicas_in_sync - weighted)


def reducible(logs: dict[str, Any]) -> dict[str, Any]:
    """Reshapes the logs of a step so that Keras can average them over workers, where it expects vectors.

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
    """`keras.random.SeedGenerator` with a stream per replica; otherwise all replicas would draw the same noise.

    Replicas share one saved state. The first replica draws the noise of a single device.

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
    """The context of this replica of `tf.distribute`; `None` if there are no others."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    replica = tf.distribute.get_replica_context()
    return replica if replica is not None and replica.num_replicas_in_sync > 1 else None
