"""Weights of the loss that are state of the model: numbers to the user, saved variables to the training step."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_provlae.checks import non_negative

WITHOUT = {
    "tc_weight": "Give `dataset_size` to its constructor.",
    "capacity": "Give a `capacity` to its constructor.",
    "contour_weight": "Give a `contour_weight` to its constructor.",
    "multiscale_weight": "Give a `multiscale_weight` to its constructor.",
}


class LossWeights(keras.layers.Layer):
    """The variables of a model's loss weights: float32, never trained.

    Attributes:
        by_name: `{name: variable}`.
        initial: `{name: number}`: what the model's constructor was given, for its config.
    """

    def __init__(self):
        super().__init__(name="loss_weights", dtype="float32", trainable=False)
        self.by_name, self.initial = {}, {}

    def add(self, name: str, values: Any) -> None:
        """Creates the variable of a weight."""
        start = keras.initializers.Constant(values)
        how = {"dtype": "float32", "trainable": False, "aggregation": "only_first_replica"}
        self.by_name[name] = self.add_weight(shape=np.shape(values), name=name, initializer=start, **how)

    def __getitem__(self, name: str) -> Any:
        """Returns a weight as a float32 tensor."""
        return ops.stop_gradient(self.by_name[name])

    def save_own_variables(self, store):
        for name, variable in self.by_name.items():
            store[name] = ops.convert_to_numpy(variable)

    def load_own_variables(self, store):
        """Loads what a file has: older files have no loss weights, and those of the constructor stay."""
        saved = set(store.keys())
        for name, variable in self.by_name.items():
            if name in saved:
                variable.assign(store[name])


class LossWeight:
    """An attribute of a model that reads and sets one of its `loss_weights`.

    The training step reads the variable, so a new value needs no new trace.

    A model has the weights that its constructor creates.

    Args:
        per_rung: Bool. Whether every rung has a weight of its own. Then the variable has the shape `(num_rungs,)`,
            deepest rung first, and the attribute is a float, or a tuple ordered from rung 1 where they differ.
        absent: The attribute of a model without the weight.

    Raises:
        TypeError, ValueError: When set, if a weight is not a finite number >= 0, or there is not one per rung, or the
            model was built without it.
    """

    def __init__(self, per_rung: bool = False, absent: Any = None):
        self.per_rung, self.absent = per_rung, absent

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, model: Any, owner: type | None = None) -> Any:
        if model is None:
            return self
        if self.name not in model.loss_weights.by_name:
            return self.absent
        values = np.ravel(ops.convert_to_numpy(model.loss_weights.by_name[self.name]))
        numbers = [float(str(value)) for value in values]  # the shortest decimals: 0.1, not 0.10000000149
        return numbers[0] if len(set(numbers)) == 1 else tuple(numbers[::-1])

    def __set__(self, model: Any, value: Any) -> None:
        if self.name not in model.loss_weights.by_name:
            raise ValueError(f"This {type(model).__name__} was built without `{self.name}`. {WITHOUT[self.name]}")
        model.loss_weights.by_name[self.name].assign(self.checked(model, value))

    def create(self, model: Any, value: Any) -> None:
        """Gives a model the weight; called by its constructor."""
        model.loss_weights.add(self.name, self.checked(model, value))
        model.loss_weights.initial[self.name] = self.__get__(model)

    def checked(self, model: Any, value: Any) -> Any:
        """Returns the values of the variable for a weight: a float, or an array `(num_rungs,)`, deepest first."""
        if not self.per_rung:
            return non_negative(self.name, value)
        if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray):
            return np.full(model.num_rungs, non_negative(self.name, value), "float32")
        if len(value) != model.num_rungs:
            raise ValueError(
                f"`{self.name}` must be one number, or one for each of the {model.num_rungs} rungs, ordered from "
                f"rung 1. Received: {self.name}={value}."
            )
        return np.array([non_negative(self.name, each) for each in value], "float32")[::-1]


def loss_weights(model: Any) -> dict[str, LossWeight]:
    """Returns the weights that a model's loss has: `{name: LossWeight}`."""
    return {name: getattr(type(model), name) for name in model.loss_weights.by_name}
