"""Serves an exported model over HTTP: TensorFlow Serving's REST paths, and the latent explorer as a page.

python examples/serve.py --model_base_path=served/mnist     then open http://127.0.0.1:8501

Needs TensorFlow and the extra `serve`, but not this package: the folder `examples` can be copied to where it serves.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import sys
from pathlib import Path

import uvicorn
from absl import app, flags
from serving.app import Limits, create_app
from serving.versions import WatchedModel

FLAGS = flags.FLAGS
# the first three are named as those of tensorflow_model_server
flags.DEFINE_string("model_base_path", None, "Folder of the model, which holds a folder per version.", required=True)
flags.DEFINE_string("model_name", None, "Name of the model in the paths; by default the folder's.")
flags.DEFINE_integer("rest_api_port", 8501, "Port; 0 takes a free one.", lower_bound=0, upper_bound=65535)
flags.DEFINE_string("host", "127.0.0.1", "Address to listen on: this machine alone; 0.0.0.0 is the whole network.")
flags.DEFINE_integer("max_body_mb", 32, "Longest body of a request, in 2**20 bytes.", lower_bound=1)
flags.DEFINE_integer("max_images", 256, "Most images that a request may send or ask for.", lower_bound=1)
flags.DEFINE_float("poll_seconds", 1.0, "How often the folder is looked at for another version.", lower_bound=0.05)
flags.DEFINE_float("stop_seconds", 30.0, "How long requests in flight may take when the server is stopped.")


def main(_):
    try:
        model = WatchedModel(Path(FLAGS.model_base_path), FLAGS.model_name)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(str(error))
    limits = Limits(body_bytes=FLAGS.max_body_mb * 2**20, images=FLAGS.max_images)
    uvicorn.run(
        create_app(model, limits, FLAGS.poll_seconds),
        host=FLAGS.host,
        port=FLAGS.rest_api_port,
        log_level="info",
        access_log=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=int(FLAGS.stop_seconds),
    )


if __name__ == "__main__":
    app.run(main)
