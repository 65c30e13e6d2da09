"""The terms of the objective (equations 3, 8 and 10): pure functions on `keras.ops`.

Every term is summed over the pixels and channels of an image, or over the dimensions of a code, and returned per
image: `beta` and `gamma` have the paper's meaning only with these sums. The models average over the batch.
"""

import math
from typing import Any

from keras import ops

from keras_provlae.checks import check_dataset_size


def bernoulli_nll(images: Any, logits: Any) -> Any:
    """Negative log likelihood of images under independent Bernoulli pixels.

    Args:
        images: Float tensor `(batch, height, width, channels)` in [0, 1].
        logits: Float tensor like `images`: log odds of a pixel being 1.

    Returns:
        Float tensor `(batch,)`: nats, summed over pixels and channels.

    Raises:
        ValueError: If `images` and `logits` differ in shape.

    Example:
        >>> import numpy as np
        >>> round(float(bernoulli_nll(np.ones((1, 2, 2, 1)), np.zeros((1, 2, 2, 1)))[0]), 4)
        2.7726

    Source: Li et al. (2020), the first term of equations 3 and 8.
    """
    _require_same_shape("images", images, "logits", logits)
    # softplus(l) - x l = -x log p - (1 - x) log(1 - p), without overflow for any logit
    return _sum_over_image(ops.softplus(logits) - images * logits)


def gaussian_nll(images: Any, mean: Any, scale: float = 1.0) -> Any:
    """Negative log likelihood of images under independent Gaussian pixels.

    Args:
        images: Float tensor `(batch, height, width, channels)`.
        mean: Float tensor like `images`: mean of each pixel.
        scale: Float > 0: standard deviation of every pixel.

    Returns:
        Float tensor `(batch,)`: nats, summed over pixels and channels.

    Raises:
        ValueError: If `images` and `mean` differ in shape or `scale` is not positive.

    Example:
        >>> import numpy as np
        >>> round(float(gaussian_nll(np.ones((1, 1, 1, 1)), np.ones((1, 1, 1, 1)))[0]), 4)
        0.9189

    Source: Li et al. (2020), the first term of equations 3 and 8.
    """
    _require_same_shape("images", images, "mean", mean)
    if not scale > 0:
        raise ValueError(f"`scale` must be positive. Received: scale={scale}.")
    constant = math.log(scale) + 0.5 * math.log(2 * math.pi)
    return _sum_over_image(0.5 * ops.square((images - mean) / scale) + constant)


def bounded_log_var(log_var: Any, low: float = -30.0, high: float = 20.0) -> Any:
    """Bounds a log variance in value but not in gradient.

    Inside the bounds this is the identity. Outside, the value is the bound but the gradient still passes, so the KL
    term pulls a runaway log variance back instead of leaving it stuck.

    Args:
        log_var: Float tensor of any shape: natural log of a variance.
        low: Float. Lower bound; -30 is a standard deviation of 3e-7.
        high: Float. Upper bound; 20 is a standard deviation of 2e4.

    Returns:
        Float tensor like `log_var`, within `[low, high]` where `log_var` is finite, else NaN.

    Example:
        >>> import numpy as np
        >>> np.array(bounded_log_var(np.array([-1.5, 1000.0]))).tolist()
        [-1.5, 20.0]

    Source: the authors' released CelebA program bounds it to [-100, 3], in the KL alone.
    """
    log_var = ops.convert_to_tensor(log_var)
    gradient_only = log_var - ops.stop_gradient(log_var)  # 0 in value, 1 in gradient
    return ops.stop_gradient(ops.clip(log_var, low, high)) + gradient_only


def gaussian_kl(mean: Any, log_var: Any) -> Any:
    """KL divergence from a diagonal Gaussian to the standard normal prior.

    Args:
        mean: Float tensor `(batch, latent_dim)`.
        log_var: Float tensor like `mean`: natural log of the variance.

    Returns:
        Float tensor `(batch,)`: nats, summed over the code, never negative. Finite
        for any finite `log_var`, which is kept within `bounded_log_var`'s bounds.

    Raises:
        ValueError: If `mean` and `log_var` differ in shape.

    Example:
        >>> import numpy as np
        >>> float(gaussian_kl(np.zeros((1, 3)), np.zeros((1, 3)))[0])
        0.0

    Source: Li et al. (2020), the KL terms of equations 8 and 10.
    """
    _require_same_shape("mean", mean, "log_var", log_var)
    log_var = bounded_log_var(log_var)
    # expm1 keeps a posterior that is close to the prior from losing its last digits
    return 0.5 * ops.sum(ops.square(mean) + ops.expm1(log_var) - log_var, axis=-1)


def total_correlation(codes: Any, mean: Any, log_var: Any, dataset_size: int, unlocked: Any = None) -> Any:
    """Log density ratio log q(z) - sum_j log q(z_j) at sampled codes; its mean is the total correlation.

    Minibatch-stratified sampling estimates the aggregate posterior q(z) = mean_n q(z | x_n) over the whole data set
    from a batch of M + 1 images: the image of the code itself gets the weight 1 / N, one other image stands for the
    N - M images outside the batch, and the rest get 1 / M. The estimate of the density is unbiased, that of its
    logarithm is not: small batches underestimate the total correlation.

    Far so: with a batch of 100 of 480,000 images and informative codes it reads -2 to -4 nats, where the truth is at
    least 0. The densities q(z_j) of single latents are then known well, but the other images hardly ever come near the
    code in all latents at once, so log q(z) is nearly the constant log q(z | x) - log N. What is left to minimize is in
    effect the sum over latents of I(x; z_j), each by itself. That still separates factors, but its value says little:
    `metrics.gaussian_total_correlation` of many images is a better measure.

    Args:
        codes: Float tensor `(batch, latents)`: a sample of each posterior.
        mean: Float tensor like `codes`.
        log_var: Float tensor like `codes`: natural log of the variance.
        dataset_size: Int N >= batch: number of images that the batch was drawn from.
        unlocked: `None`, or float tensor `(latents,)`: 1 for latents to count, 0 for latents to leave out.

    Returns:
        Float tensor `(batch,)`: nats.

    Raises:
        ValueError: If the shapes differ, the batch is known to be below 2 or above N, or N is below 2.
        TypeError: If `dataset_size` is not an integer.

    Example:
        >>> import numpy as np
        >>> mean = np.repeat([[-9.0, -9.0], [9.0, 9.0]], 50, axis=0)  # two identical latents: log 2
        >>> round(float(ops.mean(total_correlation(mean, mean, np.zeros((100, 2)), dataset_size=100))), 1)
        0.7

    Source: Chen et al. (2018), "Isolating sources of disentanglement", appendix C.2. (The
    authors' program puts the weights 1 / N into one column of the matrix; here they are on its diagonal, as derived.)
    """
    _require_same_shape("mean", mean, "log_var", log_var)
    _require_same_shape("codes", codes, "mean", mean)
    check_dataset_size(dataset_size)
    known = codes.shape[0]
    if known is not None and not 2 <= known <= dataset_size:
        raise ValueError(
            "The total correlation needs a batch of at least 2 images and at most `dataset_size`. "
            f"Received: {known} images, dataset_size={dataset_size}."
        )
    log_var = bounded_log_var(log_var)
    codes, mean = ops.convert_to_tensor(codes), ops.convert_to_tensor(mean)
    # log q(z_i,j | x_k) of every code under every posterior of the batch: (batch, batch, latents)
    squares = ops.square(codes[:, None] - mean[None]) * ops.exp(-log_var)[None]
    log_density = -0.5 * (squares + log_var[None] + math.log(2 * math.pi))
    if unlocked is not None:
        log_density = log_density * unlocked
    log_weights = ops.log(_stratified_weights(ops.shape(codes)[0], dataset_size, log_density.dtype))
    joint = ops.logsumexp(log_weights + ops.sum(log_density, axis=-1), axis=1)
    marginals = ops.logsumexp(log_weights[..., None] + log_density, axis=1)
    if unlocked is not None:
        marginals = marginals * unlocked
    # one image alone says nothing about the others
    return (joint - ops.sum(marginals, axis=-1)) * ops.cast(ops.shape(codes)[0] > 1, log_density.dtype)


def _stratified_weights(batch, dataset_size, dtype):
    """Weight of posterior k in the density at code i: 1 / N for k = i, (N - M) / (N M) for the next, else 1 / M."""
    size, others = float(dataset_size), ops.cast(batch, dtype) - 1.0
    index = ops.arange(batch)
    itself = ops.equal(index[:, None], index[None])
    following = ops.equal((index[:, None] + 1) % batch, index[None])
    rest = ops.ones_like(ops.cast(itself, dtype)) / others
    return ops.where(itself, 1.0 / size, ops.where(following, (size - others) / (size * others), rest))


def _require_same_shape(name, tensor, other_name, other):
    shape, other_shape = tuple(tensor.shape), tuple(other.shape)
    same = len(shape) == len(other_shape) and all(
        a == b or None in (a, b) for a, b in zip(shape, other_shape, strict=True)
    )
    if not same:
        raise ValueError(
            f"`{name}` and `{other_name}` must have the same shape. "
            f"Received: {name}.shape={shape}, {other_name}.shape={other_shape}."
        )


def _sum_over_image(values):
    return ops.sum(values, axis=tuple(range(1, len(values.shape))))
