"""The errors that training raises, whichever backend stopped the step."""


class InvalidImagesError(ValueError):
    """Images that the model cannot take: a wrong shape, values outside [0, 1] or not finite, or no image at all."""


class NonFiniteLossError(ValueError):
    """The loss became NaN or infinite. The step that computed it changed no weight."""
