"""The paper's data sets and your own images, as `tf.data` pipelines and ground truths."""

from keras_provlae.datasets.celeb_a import celeb_a, celeb_a_attributes
from keras_provlae.datasets.digits import mnist
from keras_provlae.datasets.dsprites import dsprites
from keras_provlae.datasets.ground_truth import GroundTruth
from keras_provlae.datasets.idx import load_idx_folder, read_idx
from keras_provlae.datasets.image_folder import image_folder
from keras_provlae.datasets.scenes import scenes
from keras_provlae.datasets.shapes3d import shapes3d

__all__ = [
    "GroundTruth",
    "celeb_a",
    "celeb_a_attributes",
    "dsprites",
    "image_folder",
    "load_idx_folder",
    "mnist",
    "read_idx",
    "scenes",
    "shapes3d",
]
