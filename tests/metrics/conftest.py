import functools

import numpy as np
import pytest

from tests.metrics.golden import EXPECTED, golden


@pytest.fixture(params=EXPECTED)
def case(request):
    """Each golden case in turn."""
    return golden(request.param)


@pytest.fixture(scope="module")
def few_trees():
    """Fits ten boosted trees instead of a hundred, for tests that do not depend on the number."""
    from sklearn.ensemble import GradientBoostingClassifier

    with pytest.MonkeyPatch.context() as patch:
        trees = functools.partial(GradientBoostingClassifier, n_estimators=10)
        patch.setattr("sklearn.ensemble.GradientBoostingClassifier", trees)
        yield


class Blobs:
    """Ground truth of 8 x 8 images: a blob at 5 x 4 positions in three sizes."""

    factor_names = ("x", "y", "size")
    factor_sizes = (5, 4, 3)
    name, source = "blobs", "drawn"

    def __len__(self):
        return 60

    def factors(self, index):
        return np.stack(np.unravel_index(index, self.factor_sizes), axis=1)

    def images(self, factors):
        x, y, size = np.asarray(factors, "float32").T[..., None, None]
        row, column = np.mgrid[0:8, 0:8].astype("float32")
        return np.exp(-((row - 1 - y) ** 2 + (column - 1 - x) ** 2) / (1 + size) ** 2)[..., None]


class Tensor:
    """A tensor of another library: neither an array nor a tensor of the backend."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, f"other.{array.dtype}"

    def __len__(self):
        return len(self.array)

    def __getitem__(self, index):
        return Tensor(self.array[index])

    def numpy(self):
        return self.array


class Loader:
    """Yields batches of tensors as a PyTorch DataLoader does: a list of tensors, or a bare tensor."""

    def __init__(self, *arrays, batch_size=7, alone=False):
        self.arrays, self.batch_size, self.alone = arrays, batch_size, alone

    def __len__(self):
        return -(-len(self.arrays[0]) // self.batch_size)

    def __iter__(self):
        for start in range(0, len(self.arrays[0]), self.batch_size):
            batch = [Tensor(array[start : start + self.batch_size]) for array in self.arrays]
            yield batch[0] if self.alone else batch


@pytest.fixture
def blobs():
    return Blobs()


class Oracle:
    """Encodes the images of `Blobs` as their factors: x and y in rung 2, the size in rung 1."""

    name = "oracle"
    rung_slices = ((2, slice(0, 2)), (1, slice(2, 3)))

    def __init__(self):
        truth = Blobs()
        self.factors = truth.factors(np.arange(len(truth)))
        self.images = truth.images(self.factors).reshape(len(truth), -1)
        self.batches = []

    def encode(self, images):
        images = np.asarray(images).reshape(len(images), -1)
        self.batches.append(len(images))
        nearest = ((images[:, None] - self.images) ** 2).sum(axis=2).argmin(axis=1)
        mean = self.factors[nearest].astype("float32")
        return mean, np.full_like(mean, -6.0)


@pytest.fixture
def oracle():
    return Oracle()
