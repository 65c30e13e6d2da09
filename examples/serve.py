"""Serves an exported model over HTTP: TensorFlow Serving's REST API and the latent explorer.

python examples/serve.py --model_base_path=served/mnist     then open http://127.0.0.1:8501

Needs `pip install tensorflow fastapi uvicorn orjson` but not keras_provlae: copy this file and the folder `serving` to
the server.
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
# the first three have the names that tensorflow_model_server uses
flags.DEFINE_string("model_base_path", None, "Folder of the model, with one folder per version.", required=True)
flags.DEFINE_string("model_name", None, "Name of the model in URLs; default: the folder's name.")
flags.DEFINE_integer("rest_api_port", 8501, "Port; 0 picks a free one.", lower_bound=0, upper_bound=65535)
flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; 0.0.0.0 accepts the whole network.")
flags.DEFINE_integer("max_body_mb", 32, "Maximum size of a request body, in MiB.", lower_bound=1)
flags.DEFINE_integer("max_images", 256, "Maximum number of images in a request or an answer.", lower_bound=8)
flags.DEFINE_integer("max_pixels", 2**25, "Maximum pixels of all PNG and JPEG files in a request.", lower_bound=1)
flags.DEFINE_float("poll_seconds", 1.0, "Seconds between checks for a new version.", lower_bound=0.05)
flags.DEFINE_integer("stop_seconds", 30, "Seconds that a shutdown waits for open requests.", lower_bound=1)
flags.DEFINE_list("allowed_hosts", None, "Allowed Host headers; default: the names of this machine.")
flags.DEFINE_bool("access_log", False, "Log every request.")


@contextlib.contextmanager
def exit_if_taken():
    """Exits with a message if the address is not available."""
    try:
        yield
    except OSError as error:
        sys.exit(f"Cannot listen on {FLAGS.host}, port {FLAGS.rest_api_port}: {error}. Try --rest_api_port=0.")


def bind():
    """Binds the socket before the model is loaded, so that a taken port is reported at once."""
    family, *_ = socket.getaddrinfo(FLAGS.host, FLAGS.rest_api_port, type=socket.SOCK_STREAM)[0]
    # with the protocol given, asyncio turns off Nagle's algorithm: 2 ms per answer instead of 48
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((FLAGS.host, FLAGS.rest_api_port))
    return bound


def main(arguments):
    if arguments[1:]:
        raise app.UsageError(f"Unknown: {' '.join(arguments[1:])}. The folder is --model_base_path=FOLDER.")
    with exit_if_taken():
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
        http="h11",  # limits the size of headers
        access_log=FLAGS.access_log,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=FLAGS.stop_seconds,
    )
    with exit_if_taken():  # another server may have bound it in the meantime
        bound.listen(2048)
    shown = f"[{address}]" if ":" in address else address
    print(f"Serving {model.name} at http://{shown}:{port} (Ctrl-C stops it)", file=sys.stderr, flush=True)
    uvicorn.Server(config).run(sockets=[bound])


if __name__ == "__main__":
    app.run(main)
