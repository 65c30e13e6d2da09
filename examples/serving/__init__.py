"""Server of `examples/serve.py`, built on TensorFlow and FastAPI; does not import keras_provlae."""
