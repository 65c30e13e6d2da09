"""Serves an exported model over HTTP: TensorFlow Serving's REST paths, and the latent explorer as a page.

python examples/serve.py --model_base_path=served/mnist     then open http://127.0.0.1:8501

Needs `pip install tensorflow fastapi uvicorn orjson` and no keras_provlae: this file and the folder `serving` beside
it can be copied to where they serve.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import contextlib
import ipaddress
import socket
import sys
from pathlib import Path

from absl import app, flags

try:
    import uvicorn
    from serving.app import Limits, create_app
    from serving.versions import WatchedModel
except ModuleNotFoundError as error:
    sys.exit(f"{error}. The server needs: pip install tensorflow fastapi uvicorn orjson")

FLAGS = flags.FLAGS
# the first three are named as those of tensorflow_model_server
flags.DEFINE_string("model_base_path", None, "Folder of the model, which holds a folder per version.", required=True)
flags.DEFINE_string("model_name", None, "Name of the model in the paths; by default the folder's.")
flags.DEFINE_integer("rest_api_port", 8501, "Port; 0 takes a free one.", lower_bound=0, upper_bound=65535)
flags.DEFINE_string("host", "127.0.0.1", "Address to listen on: this machine alone; 0.0.0.0 is the whole network.")
flags.DEFINE_integer("max_body_mb", 32, "Longest body of a request, in 2**20 bytes.", lower_bound=1)
flags.DEFINE_integer("max_images", 256, "Most images that a request may send or ask for.", lower_bound=8)
flags.DEFINE_integer("max_pixels", 2**25, "Most pixels of the PNG and JPEG files of a request together.", lower_bound=1)
flags.DEFINE_float("poll_seconds", 1.0, "How often the folder is looked at for another version.", lower_bound=0.05)
flags.DEFINE_integer("stop_seconds", 30, "How long requests in flight may take at a stop.", lower_bound=1)
flags.DEFINE_list("allowed_hosts", None, "Names in the Host header that are answered; by default this machine's.")
flags.DEFINE_bool("access_log", False, "Whether every request is a line of the log.")


@contextlib.contextmanager
def saying_where():
    """Ends the program with the address, if that cannot be had."""
    try:
        yield
    except OSError as error:
        sys.exit(f"Cannot listen on {FLAGS.host}, port {FLAGS.rest_api_port}: {error}. Try --rest_api_port=0.")


def bind():
    """The socket, before the model is loaded: that the port is taken should not take long to find out."""
    family, *_ = socket.getaddrinfo(FLAGS.host, FLAGS.rest_api_port, type=socket.SOCK_STREAM)[0]
    # by its name asyncio knows TCP, and turns off Nagle's algorithm: 2 ms an answer, not 48
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((FLAGS.host, FLAGS.rest_api_port))
    return bound


def main(arguments):
    if arguments[1:]:
        raise app.UsageError(f"Unknown: {' '.join(arguments[1:])}. The folder is --model_base_path=FOLDER.")
    with saying_where():
        bound = bind()
    address, port = bound.getsockname()[:2]
    try:
        model = WatchedModel(Path(FLAGS.model_base_path).expanduser(), FLAGS.model_name)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(str(error))
    limits = Limits(body_bytes=FLAGS.max_body_mb * 2**20, images=FLAGS.max_images, pixels=FLAGS.max_pixels)
    hosts = ["localhost", "127.0.0.1", "::1", FLAGS.host] if ipaddress.ip_address(address).is_loopback else ["*"]
    hosts = [name.lower() for name in FLAGS.allowed_hosts or hosts]
    config = uvicorn.Config(
        create_app(model, limits, FLAGS.poll_seconds, hosts),
        http="h11",  # which bounds headers
        access_log=FLAGS.access_log,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=FLAGS.stop_seconds,
    )
    with saying_where():  # another server may have bound it as well meanwhile
        bound.listen(2048)
    shown = f"[{address}]" if ":" in address else address
    print(f"Serving {model.name} at http://{shown}:{port} (Ctrl-C stops it)", file=sys.stderr, flush=True)
    uvicorn.Server(config).run(sockets=[bound])


if __name__ == "__main__":
    app.run(main)
