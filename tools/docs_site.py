"""Hooks of the documentation site: pages that are not in docs/, tutorials with their outputs, and MathJax.

The home page is README.md. What `KEPT` lists keeps its path in the site, so that one relative link works in the
repository and, with one `../` less, in the site. Each public module has a page in `api/`. MathJax is a file of the
installed package `sphinx-mathjax-offline`, so pages need no other host. `make docs` runs the tutorials and
leaves them in build/tutorials as notebooks; here they become pages.
"""

import ast
import posixpath
import re
from importlib import metadata
from pathlib import Path

import nbformat
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "keras_provlae"
NOTEBOOKS = ROOT / "build" / "tutorials"
KEPT = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "examples/*.py",
    "experiments/results/**/*.md",
    "experiments/results/**/*.png",
    "experiments/results/**/*.jsonl",
)
TO_TUTORIAL = re.compile(r"\]\(((?:[\w.-]+/)*)(\w+)\.py\)")
LINK = re.compile(r"(\]\(|src=\")([^)\"#:\s]+)")


def on_files(files, config):
    readme = re.sub(r"(\]\(|src=\")docs/", r"\1", (ROOT / "README.md").read_text())
    files.append(File.generated(config, "index.md", content=readme))
    for path in sorted(path for pattern in KEPT for path in ROOT.glob(pattern)):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    for source in sorted(ROOT.glob("docs/tutorials/*.py")):
        files.remove(files.get_file_from_path(f"tutorials/{source.name}"))
        for file in tutorial(source, config):
            files.append(file)
    for name, content in api_pages():
        files.append(File.generated(config, f"api/{name}.md", content=content))
    mathjax = next(path for path in metadata.files("sphinx-mathjax-offline") if path.name == "tex-svg.js")
    files.append(File.generated(config, "javascripts/tex-svg.js", abs_src_path=str(mathjax.locate())))
    return files


def tutorial(source, config):
    """Yields the page of a tutorial, its pictures and its notebook."""
    notebook = NOTEBOOKS / f"{source.stem}.ipynb"
    if not notebook.exists() or notebook.stat().st_mtime < source.stat().st_mtime:
        raise PluginError(f"{notebook.relative_to(ROOT)} is missing or older than its source: run `make docs`.")
    cells = nbformat.read(notebook, as_version=4)
    folder = f"{source.stem}_files"
    text, found = MarkdownExporter().from_notebook_node(cells, {"output_files_dir": folder, "unique_key": "output"})
    heading, rest = text.strip().split("\n", 1)
    about = f"*A notebook, run when this page was built: [download it]({notebook.name}).*"
    yield File.generated(config, f"tutorials/{source.stem}.md", content=f"{heading}\n\n{about}\n{rest}")
    yield File.generated(config, f"tutorials/{notebook.name}", abs_src_path=str(notebook))
    for path, content in found["outputs"].items():
        yield File.generated(config, f"tutorials/{path}", content=content)


def on_page_markdown(markdown, page, config, files):
    """Turns links that leave docs/ in the repository into links within the site, and those to tutorials into pages."""
    folder = posixpath.dirname(page.file.src_uri)
    markdown = TO_TUTORIAL.sub(page_of_tutorial, markdown)

    def within(match):
        target = posixpath.normpath(posixpath.join(folder, match[2]))
        if not target.startswith("../"):
            return match[0]
        return match[1] + posixpath.relpath(target.removeprefix("../"), folder or ".")

    return LINK.sub(within, markdown)


def page_of_tutorial(match):
    is_tutorial = (ROOT / "docs" / "tutorials" / f"{match[2]}.py").exists()
    return f"]({match[1]}{match[2]}.md)" if is_tutorial else match[0]


def api_pages():
    """Yields the name and the text of each page of the reference, from the `__all__` of each package."""
    modules = [name for name in exported(PACKAGE) if name.islower() and module_path(name)]
    rows = []
    for name in modules:
        path = module_path(name)
        names = exported(path.parent) if path.name == "__init__.py" else []
        directive = f"::: keras_provlae.{name}\n    options:\n      heading_level: 1\n      show_root_full_path: true\n"
        if names:  # a package shows what it exports, wherever that is written
            directive += "      members: false\n      show_source: false\n\n"
            directive += "\n".join(f"::: keras_provlae.{name}.{member}\n" for member in names)
        yield name, directive
        summary = ast.get_docstring(ast.parse(path.read_text())).split("\n\n")[0].replace("\n", " ")
        rows.append(f"| [`{name}`]({name}.md) | {summary} |")
    classes = [name for name in exported(PACKAGE) if not module_path(name)]
    text = (
        "# API reference\n\nAll public names, with their source. `import keras_provlae as kp` has these modules:"
        "\n\n| module | |\n|---|---|\n"
        + "\n".join(sorted(rows))
        + "\n\nand these classes by their own names: "
        + ", ".join(f"[`kp.{name}`][keras_provlae.{home(name)}.{name}]" for name in classes)
        + ".\n"
    )
    yield "index", text


def module_path(name):
    return next((path for path in (PACKAGE / f"{name}.py", PACKAGE / name / "__init__.py") if path.exists()), None)


def home(name):
    """The public module that exports a class of the package."""
    return next(module for module in ("models", "growth", "training") if name in exported(PACKAGE / module))


def exported(folder):
    """The names in `__all__` of a package."""
    for statement in ast.parse((folder / "__init__.py").read_text()).body:
        if isinstance(statement, ast.Assign) and statement.targets[0].id == "__all__":
            return ast.literal_eval(statement.value)
    return []
