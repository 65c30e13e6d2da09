"""Runs an exported SavedModel in a process where neither Keras nor this package can be imported.

Arguments: folder of the version, file of inputs, file for outputs; both `.npz` with names `signature/tensor`.
"""

import sys

REFUSED = ("keras", "keras_provlae", "tf_keras")


def main(folder, source, target):
    sys.modules.update(dict.fromkeys(REFUSED))  # `None`: every import of these fails
    import numpy as np
    import tensorflow as tf

    loaded = tf.saved_model.load(folder)
    inputs, outputs = {}, {}
    for key, array in np.load(source).items():
        signature, name = key.split("/")
        inputs.setdefault(signature, {})[name] = tf.constant(array)
    for signature, tensors in inputs.items():
        for name, tensor in loaded.signatures[signature](**tensors).items():
            outputs[f"{signature}/{name}"] = tensor.numpy()
    assert all(sys.modules[name] is None for name in REFUSED)
    np.savez(target, **outputs)


if __name__ == "__main__":
    main(*sys.argv[1:])
