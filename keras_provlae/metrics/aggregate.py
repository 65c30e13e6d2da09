"""Entropy of one latent's aggregate posterior by quadrature.

q(z) = sum_n w_n N(z; mu_n, sigma_n^2) mixes Gaussians of different widths. Its Fourier transform is
sum_n w_n exp(-i omega mu_n) exp(-omega^2 sigma_n^2 / 2). For rows that share a width, this is the
transform of their means times a Gaussian. So each row is spread

- over four neighboring widths of a log scale (eight widths per octave) with cubic Lagrange weights;
- within each width, over four cells of a grid of means with a cubic B-spline, which is divided out
  in Fourier space. The cell size doubles with each octave while the period stays the same, so the
  Fourier coefficients of all grids nest.

The grids are multiplied by their Gaussians, summed and transformed back; then -q log q is integrated.
Time is linear in the rows for any sigmas, and the error is about 1e-5 nats. Each value of a factor
gets grids of its own, filled in the same pass.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from keras_provlae.metrics.posteriors import Factors

TAIL = 8.5  # standard deviations beyond the outermost means; the mass outside is 1e-17
OVERSAMPLE = 3.0  # cells of the finest grid per smallest sigma
WIDTHS_PER_OCTAVE = 8
SMALLEST_GRID = 32
LARGEST_GRID = 2**20
ROWS_AT_ONCE = 2**16
NUMBERS_AT_ONCE = 2**22  # cells held in memory, over all classes: 32 MB


class Entropies(NamedTuple):
    """Entropies of one latent in nats."""

    marginal: float  # H(z)
    conditional: list[np.ndarray]  # per factor, H(z | v) for each of its values
    floor: float  # smallest sigma that the grid resolves; 0 if no sigma is below it

    def mean_conditional(self, probabilities: list[np.ndarray]) -> np.ndarray:
        """Returns sum_v p(v) H(z | v) for each factor, given p(v): float64 `(factors,)`."""
        return np.array([p @ entropies for p, entropies in zip(probabilities, self.conditional, strict=True)])


def marginal_entropies(
    mean: np.ndarray, log_var: np.ndarray, factors: Factors | None = None, weights: np.ndarray | None = None
) -> Entropies:
    """Computes H(z) of one latent's aggregate posterior, and H(z | v) for each value of each factor.

    Args:
        mean: Float array `(rows,)`.
        log_var: Float array `(rows,)`: natural log of the variance.
        factors: Factors of the rows, or `None` for H(z) only.
        weights: Float array `(rows,)` or `None`. Weight of each row.

    Returns:
        The entropies. Ignore those of values whose rows all have zero weight.
    """
    mean, log_sigma = mean.astype("float64"), 0.5 * log_var.astype("float64")
    grid = _Grid(mean, log_sigma)
    classes = [np.zeros(len(mean), "int64")]  # one class with all rows, for H(z)
    sizes = [1]
    if factors is not None:
        classes += list(factors.labels.T)
        sizes += factors.sizes
    entropies = [np.zeros(size) for size in sizes]
    columns = np.empty((len(classes), len(mean)), "int32")  # index of the grids that each row goes to; -1: none
    pairs: list[tuple[int, Any]] = []
    for index, (labels, size) in enumerate(zip(classes, sizes, strict=True)):
        counts = np.bincount(labels, minlength=size)
        single = counts[labels] == 1  # a single Gaussian: its entropy has a closed form
        entropies[index][labels[single]] = 0.5 * (np.log(2 * np.pi) + 1) + grid.resolved(log_sigma[single])
        many = np.flatnonzero(counts > 1)
        place = np.full(size, -1)
        place[many] = len(pairs) + np.arange(len(many))
        columns[index] = place[labels]
        pairs += [(index, value) for value in many]
    at_once = max(NUMBERS_AT_ONCE // grid.cells, 1)
    for first in range(0, len(pairs), at_once):
        block = pairs[first : first + at_once]
        filled = _fill(grid, mean, log_sigma, weights, columns, first, len(block))
        for (index, value), result in zip(block, grid.entropies(filled), strict=True):
            entropies[index][value] = result
    return Entropies(float(entropies[0][0]), entropies[1:], grid.floor)


def _fill(grid, mean, log_sigma, weights, columns, first, number):
    """Fills the grids of classes `first` .. `first + number - 1`: float64 `(number, cells)`."""
    filled = np.zeros((number, grid.cells))
    inside = (columns >= first) & (columns < first + number)
    used = np.flatnonzero(inside.any(axis=0))
    at_once = max(ROWS_AT_ONCE, grid.cells // 8)  # adding a batch of rows costs a pass over whole grids
    for start in range(0, len(used), at_once):
        rows = used[start : start + at_once]
        cells, shares = grid.spread(mean[rows], log_sigma[rows])
        if weights is not None:
            shares *= weights[rows]
        for column, selected in zip(columns[:, rows], inside[:, rows], strict=True):
            if selected.any():
                _add(filled, cells, shares, column - first, selected)
    return filled


def _add(filled, cells, shares, columns, selected):
    if not selected.all():
        cells, shares, columns = cells[:, selected], shares[:, selected], columns[selected]
    low, high = int(columns.min()), int(columns.max()) + 1
    size = filled.shape[1]
    index = cells + (columns - low) * size
    flat = filled[low:high].reshape(-1)
    flat += np.bincount(index.ravel(), shares.ravel(), minlength=flat.size)


class _Grid:
    """One grid of means per width, over one latent's range."""

    def __init__(self, mean, log_sigma):
        self.origin = mean[0]  # subtracted, so means far from 0 lose no digits
        sigma = np.exp(np.maximum(log_sigma, -300.0))
        low = ((mean - self.origin) - TAIL * sigma).min()
        self.period = 1.0001 * (((mean - self.origin) + TAIL * sigma).max() - low)
        self.low = low
        smallest = sigma.min()
        wanted = max(self.period * OVERSAMPLE / smallest, SMALLEST_GRID)
        self.size = min(2 ** math.ceil(math.log2(wanted)), LARGEST_GRID)
        self.floor = 0.0
        if self.size < wanted:
            self.floor = smallest = self.period * OVERSAMPLE / self.size
        self.log_smallest = math.log(smallest)
        self.step = math.log(2) / WIDTHS_PER_OCTAVE
        widths = int(self._position(log_sigma).max()) + 4  # one width below each row's own and two above
        number = np.arange(widths) - 1
        octave = np.clip(number // WIDTHS_PER_OCTAVE, 0, int(math.log2(self.size // SMALLEST_GRID)))
        self.octave = octave
        self.sizes = self.size >> octave
        self.offsets = np.concatenate([[0], np.cumsum(self.sizes)])
        self.cells = int(self.offsets[-1])
        self.widths = np.exp(self.log_smallest + self.step * number)

    def _position(self, log_sigma):
        """Position of each sigma on the scale of widths; 0 is the smallest."""
        return (self.resolved(log_sigma) - self.log_smallest) / self.step

    def resolved(self, log_sigma):
        """Log sigmas clipped at the floor."""
        return np.maximum(log_sigma, self.log_smallest)

    def spread(self, mean, log_sigma):
        """Computes the 16 cells that each row goes to, and its weights: int64 and float64 `(16, rows)`."""
        position = self._position(log_sigma)
        below = np.floor(position).astype("int64")
        lagrange = _lagrange(position - below)
        place = (mean - self.origin - self.low) * (self.size / self.period)
        cells = np.empty((16, len(mean)), "int64")
        shares = np.empty((16, len(mean)))
        for width in range(4):
            index = below + width
            cell = place * np.ldexp(1.0, -self.octave)[index]
            left = np.floor(cell).astype("int64")
            spline = _spline(cell - left)
            size, offset = self.sizes[index], self.offsets[index]
            for neighbor in range(4):
                entry = 4 * width + neighbor
                cells[entry] = offset + ((left + neighbor - 1) & (size - 1))  # sizes are powers of 2
                shares[entry] = lagrange[width] * spline[neighbor]
        return cells, shares

    def entropies(self, filled):
        """Entropy of each class of `filled`, `(classes, cells)`: float64 `(classes,)`."""
        at_once = max(2**20 // self.cells, 1)
        blocks = [filled[start : start + at_once] for start in range(0, len(filled), at_once)]
        return np.concatenate([self._entropies(block) for block in blocks])

    def _entropies(self, filled):
        spectrum = np.zeros((len(filled), self.size // 2 + 1), "complex128")
        for size in np.unique(self.sizes):
            frequency = np.arange(size // 2 + 1)
            for width in np.flatnonzero(self.sizes == size):
                histogram = filled[:, self.offsets[width] : self.offsets[width + 1]]
                if not histogram.any():
                    continue
                gaussian = np.exp(-0.5 * (2 * np.pi / self.period * self.widths[width] * frequency) ** 2)
                spectrum[:, : size // 2 + 1] += np.fft.rfft(histogram) * (gaussian / np.sinc(frequency / size) ** 4)
        density = np.maximum(np.fft.irfft(spectrum, n=self.size), 0.0)
        cell = self.period / self.size
        mass = density.sum(axis=1, keepdims=True) * cell
        density /= np.where(mass > 0, mass, 1.0)
        return -(density * np.log(np.where(density > 0, density, 1.0))).sum(axis=1) * cell


def _lagrange(t):
    """Cubic Lagrange weights of the nodes -1, 0, 1, 2 at 0 <= t < 1."""
    return (
        -t * (t - 1) * (t - 2) / 6,
        (t + 1) * (t - 1) * (t - 2) / 2,
        -(t + 1) * t * (t - 2) / 2,
        (t + 1) * t * (t - 1) / 6,
    )


def _spline(t):
    """Cubic B-spline at distances t + 1, t, 1 - t, 2 - t."""
    t2, t3 = t * t, t * t * t
    return (1 - t) ** 3 / 6, (4 - 6 * t2 + 3 * t3) / 6, (1 + 3 * t + 3 * t2 - 3 * t3) / 6, t3 / 6
