"""Data sets of the paper as `tf.data` pipelines."""

from keras_provlae.datasets.digits import mnist
from keras_provlae.datasets.idx import load_idx_folder, read_idx

__all__ = ["load_idx_folder", "mnist", "read_idx"]
