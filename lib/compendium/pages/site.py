"""`make site`: the executed notebooks as static pages in `build/site/`, for a browser alone.

Every page opens from a folder: no kernel, no server, nothing from another machine. Each figure
has a page, its notebook as it was executed, with links to its picture, numbers and parameters.
"""

import html
import importlib
import inspect
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from functools import cache as remember
from pathlib import Path

from tqdm.auto import tqdm

from atarilens.paths import BUILD, FIGURES, NOTEBOOKS, ROOT, MissingDataError
from compendium.figures import drawing, made_of
from compendium.figures.params import PARAMS, files_of, list_figures
from compendium.pages.explorer import RECORDINGS, Recording, write_explorer
from compendium.pages.readmes import chapter_name, chapters, figures_of, title

SITE = BUILD / "site"
RUNS = BUILD / "site-runs"  # notebooks without a params file, executed for their pages alone
STYLE = Path(__file__).with_suffix(".css")
DOCUMENTS = ("glossary", "lesson", "solutions")  # notebooks/<name>.md
PACKAGES = ("games", "saliency", "agents", "measures", "play", "features", "views", "apps")
WIDGET = "application/vnd.jupyter.widget-view+json"
NAVIGATION = {
    "index": "atarilens",
    "glossary": "Glossary",
    "lesson": "Lesson plan",
    "api": "Library",
}


def write_site(
    folder: Path = SITE,
    notebooks: list[Path] | None = None,
    recordings: tuple[Recording, ...] = RECORDINGS,
) -> list[str]:
    """Write every page of the site; what was in the folder before is removed.

    Args:
        folder: of the site.
        notebooks: whose pages are wanted, all by default.
        recordings: that the explorer without a kernel shows; without any, it is left out.

    Returns:
        what could not be shown as executed, in words.
    """
    notebooks = sorted(NOTEBOOKS.glob("[0-9]*.ipynb")) if notebooks is None else notebooks
    shutil.rmtree(folder, ignore_errors=True)
    for name, source, kinds in (
        ("figures", FIGURES, (".png", ".json", ".gif", ".mp4")),
        ("params", PARAMS, (".yml",)),
        ("notebooks", NOTEBOOKS, (".ipynb",)),
    ):
        (folder / name).mkdir(parents=True)
        for path in sorted(source.iterdir()):
            if path.suffix in kinds:
                shutil.copy(path, folder / name)
    shutil.copy(STYLE, folder / "style.css")
    wrong = []
    for notebook in tqdm(notebooks, unit="notebook", disable=None):
        for name in figures_of(notebook) or [notebook.stem]:
            run, problem = executed(notebook, name)
            wrong += [problem] if problem else []
            text = sources(notebook, name) + (stored(name) if problem else "") + body_of(run)
            write_page(folder / f"{name}.html", title(notebook), text)
    for name in DOCUMENTS:
        path = NOTEBOOKS / f"{name}.md"
        if path.is_file():
            text = markdown(path.read_text(encoding="utf-8"))
            write_page(folder / f"{name}.html", name.capitalize(), text)
    write_page(folder / "api.html", "The library, function by function", library())
    extras = {}
    if recordings:
        write_explorer(folder / "explorer", recordings)
        extras["explorer/index.html"] = (
            "Blur a spot, ask the agent: recorded games, and a network that answers in your browser"
        )
    for page in sorted(BUILD.glob("audit-*/audit.html")):  # of `make audit`
        audit = page.parent.name
        (folder / audit).mkdir()
        for path in page.parent.glob("audit.*"):  # not the games that it was measured on
            shutil.copy(path, folder / audit)
        extras[f"{audit}/audit.html"] = f"Audit of {audit.removeprefix('audit-')}"
    first = index(notebooks, extras)
    write_page(folder / "index.html", "See why an Atari agent does what it does", first)
    return wrong


def write_page(path: Path, name: str, text: str) -> None:
    """Write one page: navigation, and the text with its links made relative to the site."""
    links = "".join(f'<a href="{page}.html">{words}</a>' for page, words in NAVIGATION.items())
    path.write_text(
        "<!doctype html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><title>{html.escape(name)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,"><link rel="stylesheet" href="style.css"></head>\n'
        f"<body><header><nav>{links}</nav></header><main>\n{relink(text)}\n</main></body></html>\n",
        encoding="utf-8",
    )


def relink(text: str) -> str:
    """Point links between files of the repository to the pages of the site."""

    def link(match: re.Match) -> str:
        target, anchor = match[1].rsplit("/", 1)[-1], match[2] or ""
        stem = target.rsplit(".", 1)[0]
        pages = figures_of(NOTEBOOKS / target) if target.endswith(".ipynb") else []
        return f'href="{pages[0] if pages else stem}.html{anchor}"'

    return re.sub(r'href="(?!https?:|notebooks/)([^"#]*\.(?:md|ipynb))(#[^"]*)?"', link, text)


def executed(notebook: Path, name: str) -> tuple[Path, str]:
    """Return a notebook as it was executed; if that failed, its source, and why in words."""
    run = BUILD / f"{name}.ipynb"
    if run.is_file():
        return run, ""
    if figures_of(notebook):
        return notebook, f"{name} is not drawn here: its page shows no results"
    run = RUNS / f"{name}.ipynb"
    stamp = run.with_suffix(".sha256")
    content = made_of.sha256_of_notebook(notebook)
    if run.is_file() and stamp.is_file() and stamp.read_text() == content:
        return run, ""
    RUNS.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    print(f"executing {notebook.name} ...", flush=True)
    try:
        drawing.execute(notebook, run, {})
    except (ValueError, MissingDataError) as error:
        return notebook, f"{notebook.name} could not be executed: {error}"
    stamp.write_text(content)
    return run, ""


def sources(notebook: Path, name: str) -> str:
    """Return links from a page to its notebook, its parameters, its pictures and its numbers."""
    links = [f'<a href="notebooks/{notebook.name}" download>notebook</a>']
    files = sorted(files_of(name, FIGURES)) if name in list_figures() else []
    if files:
        links.append(f'<a href="params/{name}.yml">parameters</a>')
    words = {".json": "numbers", ".png": "picture", ".gif": "film (GIF)", ".mp4": "film (MP4)"}
    links += [f'<a href="figures/{file}">{words[Path(file).suffix]}</a>' for file in files]
    others = [other for other in figures_of(notebook) if other != name]
    links += [f'<a href="{other}.html">{other.partition("--")[2] or other}</a>' for other in others]
    films = "".join(
        f'<video controls loop muted src="figures/{file}"></video>'
        for file in files
        if file.endswith(".mp4")
    )
    return f'<p class="sources">{" · ".join(links)}</p>{films}'


def stored(name: str) -> str:
    """Return the stored picture of a figure whose notebook was not executed here."""
    words = "<p>The notebook was not executed for this page; its stored figure is:</p>"
    shown = (FIGURES / f"{name}.png").is_file()
    return f'{words}<img alt="" src="figures/{name}.png">' if shown else ""


def body_of(run: Path) -> str:
    """Return an executed notebook as HTML without a frame around it."""
    import nbformat

    text = run.read_text(encoding="utf-8").replace(json.dumps(f"{ROOT}{os.sep}")[1:-1], "")
    notebook = nbformat.reads(text, 4)  # without the address of the repository on this machine
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        for output in cell.get("outputs", ()):
            if WIDGET in output.get("data", ()):
                words = "Something to click stands here when the notebook runs: `make lab`."
                output["data"] = {"text/markdown": f"*{words}*"}
        if "injected-parameters" in cell.metadata.get("tags", ()):  # no path of this machine
            cell.source = re.sub(r"^out_dir = .*\n?", "", cell.source, flags=re.M)
        if cell.cell_type == "markdown":
            cell.source = without_formulas(cell.source)
    notebook.metadata.pop("widgets", None)
    text = named_as_on_github(exporter().from_notebook_node(notebook)[0])
    return f"{text}<style>{_colours()}</style>"


@remember
def exporter():
    """Return nbconvert's exporter without a frame; its templates are read once."""
    from nbconvert import HTMLExporter

    return HTMLExporter(template_name="basic")


@remember
def _colours() -> str:
    from pygments.formatters import HtmlFormatter

    return HtmlFormatter(style="default").get_style_defs(".highlight")


def without_formulas(text: str) -> str:
    """Replace LaTeX between dollars by pictures: a page that needs no script shows them as well."""

    def picture(match: re.Match) -> str:
        source = (match[1] or match[2]).strip()
        return f'<img alt="{html.escape(source)}" src="{formula(source)}">'

    parts = re.split(r"(```.*?```|`[^`\n]*`)", text, flags=re.S)
    pattern = r"\$\$(.+?)\$\$|\$(?!\s)([^$\n]+?)(?<!\s)\$"
    parts[::2] = [re.sub(pattern, picture, part, flags=re.S) for part in parts[::2]]
    return "".join(parts)


def formula(source: str) -> str:
    """Draw a formula with matplotlib; return it as the address of a picture."""
    import base64
    import io

    from matplotlib import mathtext

    drawn = io.BytesIO()
    mathtext.math_to_image(f"${source.rstrip('.')}$", drawn, dpi=100, format="svg")
    return f"data:image/svg+xml;base64,{base64.b64encode(drawn.getvalue()).decode()}"


def markdown(text: str) -> str:
    """Return Markdown as HTML."""
    from nbconvert.filters import markdown2html

    return named_as_on_github(markdown2html(without_formulas(text)))


def named_as_on_github(text: str) -> str:
    """Name headings as GitHub does, in lower case: links between notebooks rely on these names."""

    def name(match: re.Match) -> str:
        return match[1] + re.sub(r"[^\w-]", "", html.unescape(match[2]).lower()) + '"'

    return re.sub(r'(<h[1-6][^>]* id="|href="#)([^"]*)"', name, text)


def index(notebooks: list[Path], extras: Mapping[str, str]) -> str:
    """Return the first page: every notebook with its claim and its first picture.

    Args:
        notebooks: that have pages.
        extras: address -> words, of pages that are no notebook's.
    """
    parts = [
        "<h1>See why an Atari agent does what it does</h1>",
        "<p>Trained agents, notebooks that draw every figure, and the controls that a claim about "
        "a saliency map must beat. Start with the first card, teach with the "
        '<a href="lesson.html">lesson plan</a>, look words up in the '
        '<a href="glossary.html">glossary</a>.</p>',
    ]
    parts += [
        f'<p class="sources"><a href="{page}">{words}</a></p>' for page, words in extras.items()
    ]
    for digit, members in chapters(notebooks).items():
        cards = "\n".join(card(notebook) for notebook in members)
        parts.append(f"<h2>{chapter_name(digit)}</h2>\n<div class='cards'>\n{cards}\n</div>")
    return "\n".join(parts)


def card(notebook: Path) -> str:
    """Return a notebook's place on the first page: picture, claim, and a link for each figure."""
    names = figures_of(notebook) or [notebook.stem]
    shown = (FIGURES / f"{names[0]}.png").is_file()
    image = f'<img loading="lazy" alt="" src="figures/{names[0]}.png">' if shown else ""
    pages = " · ".join(
        f'<a href="{name}.html">{name.partition("--")[2] or "read"}</a>' for name in names
    )
    return (
        f'<div class="card"><a href="{names[0]}.html">{image}</a>'
        f"<p><b>{notebook.stem[:2]}</b> {html.escape(title(notebook))}</p><p>{pages}</p></div>"
    )


def library() -> str:
    """Return the public functions and classes of `atarilens`, from their docstrings."""
    links = " · ".join(f'<a href="#{package}">{package}</a>' for package in PACKAGES)
    parts = [f'<h1>The library, function by function</h1><p class="sources">{links}</p>']
    for package in PACKAGES:
        module = importlib.import_module(f"atarilens.{package}")
        words = markdown(inspect.getdoc(module) or "")
        parts.append(f'<h2 id="{package}">atarilens.{package}</h2>{words}')
        for name in sorted(getattr(module, "__all__", ())):
            thing = getattr(module, name)
            if callable(thing):
                parts.append(entry(f"{package}.{name}", thing))
    return "\n".join(parts)


def entry(name: str, thing: Callable) -> str:
    """Return the signature and the docstring of a function or a class."""
    try:
        signature = str(inspect.signature(thing))
    except (TypeError, ValueError):
        signature = "(...)"
    first, _, rest = (inspect.getdoc(thing) or "").partition("\n\n")
    code = html.escape(f"{name}{signature}")
    details = f"<pre>{html.escape(rest)}</pre>" if rest else ""
    return (
        f'<h3 id="{name}"><code>{html.escape(name)}</code></h3>{markdown(first)}'
        f"<details><summary>signature and arguments</summary><pre>{code}</pre>{details}</details>"
    )


def check_links(folder: Path = SITE) -> list[str]:
    """Name the links of the site that lead nowhere, or to another machine's script or picture.

    Pages of notebooks and documents hold no script; those of the explorer lie beside it.
    """
    wrong, folder = [], folder.resolve()
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.html"))}
    for page, text in pages.items():
        name = page.relative_to(folder)
        for target in re.findall(r'(?:href|src)="([^"]*)"', text):
            if target.startswith(("http:", "https:", "data:")):
                continue
            file, _, anchor = html.unescape(target).partition("#")
            path = (page.parent / file).resolve() if file else page
            if not path.is_file() or (anchor and f'id="{anchor}"' not in pages.get(path, "")):
                wrong.append(f"{name}: {target}")
        wrong += [f"{name}: {src}" for src in re.findall(r'src="(https?:[^"]*)"', text)]
        if page.parent == folder:
            wrong += [f"{name}: a script" for _ in re.findall(r"<script\b", text)]
    return wrong
