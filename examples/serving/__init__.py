"""The server of `examples/serve.py`: TensorFlow, FastAPI and no line of keras_provlae, which it does not need."""
