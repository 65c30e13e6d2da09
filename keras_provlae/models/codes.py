"""Codes that a ladder model is given, or draws, to decode."""

from typing import Any

from keras import ops


def checked_codes(model: Any, codes: Any) -> Any:
    """Returns codes `(batch, sum of latent_dim)`; raises a `ValueError` for another shape."""
    width = sum(model.rung_widths)
    if len(codes.shape) != 2 or codes.shape[1] != width:
        raise ValueError(
            f"`codes` must have the shape (batch, {width}): {model.num_rungs} rungs of widths "
            f"{model.rung_widths}, deepest first. Received: codes.shape={tuple(codes.shape)}."
        )
    return codes


def hold_other_rungs(model: Any, codes: Any, rung: int, around: Any = None) -> Any:
    """Replaces the codes of all rungs but one by one image's posterior means, or by 0.

    Args:
        model: A `LadderVAE`.
        codes: Float tensor `(batch, sum of latent_dim)`.
        rung: Int 1 .. L: the rung whose codes stay.
        around: One image, `(1, height, width, channels)`, or `None` for 0, the prior's mean.

    Returns:
        Float tensor like `codes`.

    Raises:
        ValueError: If there is no such rung, or `around` is not one image.
    """
    columns = dict(model.rung_slices).get(rung)
    if columns is None:
        raise ValueError(f"`rung` must be 1 .. {model.num_rungs}. Received: rung={rung}.")
    held = ops.zeros_like(codes[:1])
    if around is not None:
        held, _ = model.encode(around)
        if held.shape[0] != 1:
            raise ValueError(f"`around` must be one image. Received: around.shape={tuple(around.shape)}.")
    held = ops.repeat(held, codes.shape[0], axis=0)
    return ops.concatenate([held[:, : columns.start], codes[:, columns], held[:, columns.stop :]], axis=1)
