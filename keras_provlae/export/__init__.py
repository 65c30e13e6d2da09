"""Exports that run without this package: SavedModels for TensorFlow Serving, ONNX and LiteRT files."""

from keras_provlae.export.converted import export_litert, export_onnx
from keras_provlae.export.metadata import read_metadata
from keras_provlae.export.savedmodel import export_savedmodel

__all__ = ["export_litert", "export_onnx", "export_savedmodel", "read_metadata"]
