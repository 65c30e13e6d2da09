"""Opens the latent explorer on a pretrained model: exports it once, then serves it.

python examples/explore.py --preset=shapes3d_64     then open http://127.0.0.1:8501
"""

import os
import sys
from pathlib import Path

from absl import app, flags, logging

import keras_provlae as kp

FLAGS = flags.FLAGS
flags.DEFINE_enum("preset", "shapes3d_64", kp.pretrained.names(), "The pretrained model.")
flags.DEFINE_string("output", "output/explore", "Folder for the exports.")
flags.DEFINE_integer("port", 8501, "Port; 0 picks a free one.", lower_bound=0, upper_bound=65535)


def example_images(preset):
    """A few images of the data that the model was trained on."""
    data = kp.pretrained.card(preset)["recipe"]["data"]
    if data["name"] == "mnist":
        return next(iter(kp.datasets.mnist("test", 16)))
    return getattr(kp.datasets, data["name"])("procedural").downscale(data["downscale"]).sample(16, seed=0)[0]


def main(_):
    logging.set_verbosity(logging.ERROR)  # TensorFlow names every input of a converted function
    folder = Path(FLAGS.output) / FLAGS.preset
    if not kp.export.metadata.version_folders(folder):
        model = kp.ProgressiveVAE.from_preset(FLAGS.preset, load_weights=True)
        kp.export.export_savedmodel(model, folder, example_images=example_images(FLAGS.preset))
    server = Path(__file__).with_name("serve.py")
    os.execv(sys.executable, [sys.executable, server, f"--model_base_path={folder}", f"--rest_api_port={FLAGS.port}"])


if __name__ == "__main__":
    app.run(main)
