"""Where the package draws a line: one home for each threshold that several parts share."""

LEAST_NATS = 0.1  # a rung that carries less says next to nothing about the image
ACTIVE_VARIANCE = 1e-2  # a latent is active where the variance of its means is larger (the authors' released program)
HELD_SHARE = 0.1  # of a factor's entropy: a rung or latent that knows less of the factor does not hold it
