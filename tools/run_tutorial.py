"""Runs a tutorial as a notebook and keeps it with its outputs.

python tools/run_tutorial.py docs/tutorials/pretrained_ladder.py build/tutorials
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import jupytext
import nbformat
from nbclient import NotebookClient


def main(source, folder):
    source, folder = Path(source), Path(folder)
    notebook = jupytext.read(source)
    with TemporaryDirectory(dir=folder) as run:  # within the repository, whose examples one of them starts
        settings = {"kernel_name": "python3", "extra_arguments": ["--IPKernelApp.log_level=ERROR"]}
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": run}}, **settings).execute(
            stderr=subprocess.DEVNULL  # what TensorFlow logs at its start; errors are in the notebook
        )
    for cell in notebook.cells:  # messages of TensorFlow as it starts
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    nbformat.write(notebook, folder / f"{source.stem}.ipynb")


if __name__ == "__main__":
    main(*sys.argv[1:])
