"""Names that people give to the latents of a model, such as "floor hue"."""

from typing import Any, Self, overload

from keras_provlae.checks import check_latent_names


class LatentNames:
    """An attribute of a model: `None`, or a tuple with a name for each latent, deepest rung first.

    Files keep the names; pictures, the report, exports and the explorer show them. "" leaves a latent unnamed.

    Raises:
        TypeError, ValueError: When set, if a name is not a text or there is not one for each latent.
    """

    @overload
    def __get__(self, model: None, owner: type | None = None) -> Self: ...

    @overload
    def __get__(self, model: Any, owner: type | None = None) -> tuple[str, ...] | None: ...

    def __get__(self, model: Any, owner: type | None = None) -> Any:
        return self if model is None else getattr(model, "_latent_names", None)

    def __set__(self, model: Any, names: Any) -> None:
        if names is not None:
            check_latent_names(names, model.rung_slices[-1][1].stop)
        model._latent_names = None if names is None else tuple(names)
