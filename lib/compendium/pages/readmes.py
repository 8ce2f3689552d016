"""Write the README files and tables that are made of stored numbers, never by hand.

`figures/README.md` and `notebooks/README.md` are generated whole. README.md,
`data/agents/README.md` and `data/benchmarks/README.md` hold generated parts between
`<!-- name: ... -->` and `<!-- end -->`.
`make figures` writes them; `python -m compendium.pages` writes them alone. They depend on files of
the repository only: minutes are those that `python -m compendium.pages minutes` stored last.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from atarilens.paths import AGENTS, BENCHMARKS, BUILD, FIGURES, NOTEBOOKS, ROOT, whole_file
from compendium.figures.params import list_figures, notebook_of
from compendium.pages.claims import answers, corrected, counted, further

README = ROOT / "README.md"
CLAIMS = NOTEBOOKS / "claims.yml"
MINUTES = BENCHMARKS / "figures.json"  # seconds of each figure, and the machine
SNIPPET = FIGURES / "README.png"  # drawn by the code of README.md, which its metadata holds
SPEED = BENCHMARKS / "intel-r-xeon-r-processor-2-cores.json"
WIDTH = 90  # px of a thumbnail in the tables of notebooks
CHAPTERS = {  # by the first digit of a notebook
    "0": "the paper",
    "1": "interactive",
    "2": "teaching",
    "3": "built-in attention",
    "4": "synthesised states",
    "5": "other algorithms",
    "6": "which explanation to trust",
}
EXAMPLES = ("02", "11", "21", "60")  # README.md shows these of their chapters, else the first


def title(notebook: Path) -> str:
    """Return the claim of a notebook: its first line, without the `# `."""
    first = json.loads(notebook.read_text())["cells"][0]["source"]
    return "".join(first).splitlines()[0].removeprefix("# ")


def figures_of(notebook: Path) -> list[str]:
    """List the figures that a notebook draws."""
    return [name for name in list_figures() if notebook_of(name) == notebook]


def thumbnail(figure: str, folder: str, width: int) -> str:
    """Return a small picture of a figure; nothing if it has not been drawn."""
    drawn = (FIGURES / f"{figure}.png").is_file()
    return f'<img src="{folder}{figure}.png" width={width}>' if drawn else ""


# --- README.md and notebooks/README.md


def chapters(notebooks: Iterable[Path] | None = None) -> dict[str, list[Path]]:
    """Return the notebooks of each chapter, in order; of all notebooks by default."""
    found: dict[str, list[Path]] = {}
    for notebook in notebooks or sorted(NOTEBOOKS.glob("[0-9]*.ipynb")):
        found.setdefault(notebook.stem[0], []).append(notebook)
    return found


def chapter_name(digit: str) -> str:
    """Return the name of a chapter, such as "2x: teaching"."""
    return f"{digit}x: {CHAPTERS[digit]}"


def chapters_table() -> str:
    """Return a row for each chapter: a link to its notebooks, and one of them as an example."""
    lines = ["| chapter (notebooks) | for example | |", "|---|---|---|"]
    for digit, notebooks in chapters().items():
        example = next((n for n in notebooks if n.stem[:2] in EXAMPLES), notebooks[0])
        anchor = chapter_name(digit).replace(":", "").replace(" ", "-")
        link = f"[{chapter_name(digit)}](notebooks/README.md#{anchor}) ({len(notebooks)})"
        lines.append(f"| {link} | {notebook_cells(example, 'notebooks/', 'figures/')}")
    return "\n".join(lines)


def notebook_cells(notebook: Path, folder: str, figures: str) -> str:
    """Return a notebook's claim, with a link, and the first of its figures as a thumbnail.

    Args:
        notebook: which.
        folder: of the notebooks, as seen from the page.
        figures: folder of the figures, as seen from the page.
    """
    picture = "".join(thumbnail(f, figures, WIDTH) for f in figures_of(notebook)[:1])
    return f"[{notebook.stem[:2]}]({folder}{notebook.name}) {title(notebook)} | {picture} |"


def notebooks_page() -> str:
    """Return the page about every notebook, chapter by chapter: its claim and a thumbnail."""
    parts = [
        "# Every notebook and its claim",
        "`make figures` writes this page; edit nothing here. Whether a claim holds, with its "
        "numbers, stands in [figures/README.md](../figures/README.md). Words are explained in the "
        "[glossary](glossary.md); [lesson.md](lesson.md) is a plan for 90 minutes.",
    ]
    for digit, notebooks in chapters().items():
        rows = [f"| {notebook_cells(notebook, '', '../figures/')}" for notebook in notebooks]
        parts.append(f"## {chapter_name(digit)}")
        parts.append("\n".join(["| claim | |", "|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def snippet() -> str:
    """Return the first Python code of README.md."""
    found = re.search(r"^```python\n(.*?)^```", README.read_text(), re.S | re.M)
    return found[1] if found else ""


def draw_snippet() -> None:
    """Run the code of README.md as pasted, and keep the picture that it saves with the code."""
    with TemporaryDirectory() as folder:
        environment = os.environ | {"PYTHONPATH": str(ROOT / "lib"), "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-c", snippet()], cwd=folder, env=environment, check=True)
        (drawn,) = Path(folder).glob("*.png")
        info = PngInfo()
        info.add_text("code", snippet())
        with Image.open(drawn) as picture, whole_file(SNIPPET) as path:
            picture.save(path, format="PNG", optimize=True, pnginfo=info)


def snippet_is_drawn() -> bool:
    """Tell whether the picture is that of the code as it is now."""
    if not SNIPPET.is_file():
        return False
    with Image.open(SNIPPET) as picture:
        return picture.info.get("code") == snippet()


# --- figures/README.md


def stored_minutes() -> dict:
    """Return "machine", a "note", and the "seconds" of each figure that has a stored time."""
    if not MINUTES.is_file():
        return {"machine": "no machine yet", "note": "", "seconds": {}}
    return json.loads(MINUTES.read_text())


def numbers_of(figure: str) -> dict:
    """Return the stored numbers of a figure; {} if it has not been drawn."""
    path = FIGURES / f"{figure}.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def figure_row(figure: str, seconds: Mapping, about: str = "", levels: Mapping = {}) -> str:
    """Return the row of one figure; `about` and `levels` as in `answers`."""
    numbers = numbers_of(figure)
    minutes = f"{seconds[figure] / 60:.1f}" if figure in seconds else "–"
    links = [f"[picture]({figure}.png)", f"[numbers]({figure}.json)"] if numbers else ["not drawn"]
    links.append(f"[params](../notebooks/params/{figure}.yml)")
    cells = [thumbnail(figure, "", 240), f"`{figure}`<br>{'<br>'.join(links)}", minutes]
    lines = answers(numbers, about, levels) + further(numbers)
    return f"| {' | '.join([*cells, '<br>'.join(lines) or '–'])} |"


def figures_page() -> str:
    """Return the page about every figure: notebook, parameters, numbers, minutes, answer."""
    record = stored_minutes()
    claims = yaml.safe_load(CLAIMS.read_text()) if CLAIMS.is_file() else {}
    drawing = {notebook_of(figure) for figure in list_figures()}
    notebooks = sorted(drawing | {NOTEBOOKS / f"{name}.ipynb" for name in claims})
    abouts = {
        notebook: "|".join(c["about"] for c in claims.get(notebook.stem, ()) if "about" in c)
        for notebook in notebooks
    }
    figures = {name: (numbers_of(name), abouts[notebook_of(name)]) for name in list_figures()}
    levels = corrected(figures.values())
    parts = [
        "# Every figure: what the paper claims, and what we found",
        "`make figures` writes this page from the numbers beside it; edit nothing here. "
        "A claim counts once: it **holds** if the 95 % interval of the difference lies above 0 "
        "for every control, it is **reversed** if one lies below 0, **absent** if an interval "
        "rules out a difference that matters, and **undecided** if these games cannot tell. "
        "Behind each control stand the difference and its interval, over n episodes; NSS unless "
        "the figure says otherwise.",
        f"Minutes were measured on `{record['machine']}`, two figures at a time. {record['note']}",
    ]
    parts.insert(2, counted(levels))
    for notebook in notebooks:
        parts.append(f"## [{notebook.stem}](../notebooks/{notebook.name}): {title(notebook)}")
        for claim in claims.get(notebook.stem, ()):
            parts.append(f"*The paper* ({claim['place']}): {claim['paper']}")
            parts.append(f"*Measured here*: {claim['measured']}")
            if "missing" in claim:
                parts.append(f"*Not measured*: {claim['missing']}")
        rows = [
            figure_row(figure, record["seconds"], abouts[notebook], levels)
            for figure in figures_of(notebook)
        ]
        if rows:
            parts.append("\n".join(["| | figure | minutes | answer |", "|---|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


# --- data/agents/README.md


def agent_rows() -> dict[str, dict]:
    """Return every row of `data/agents` by the name of its agent."""
    return {path.stem: yaml.safe_load(path.read_text()) for path in sorted(AGENTS.glob("*.yml"))}


def agents_table() -> str:
    """Return the table of our own agents, with their scores."""
    lines = [
        "| agent | network | mean score of 30 episodes (95 % interval) | greedy | sticky | steps "
        "| hours | seed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in agent_rows().items():
        if "url" in row:
            continue
        score = row.get("score") or {}
        mean = "not measured"
        if score:
            mean = "{:.1f} ({:.1f} to {:.1f})".format(score["mean"], *score["interval"])
        others = [f"{score[k]['mean']:.1f}" if k in score else "–" for k in ("greedy", "sticky")]
        steps, hours, seed = (row.get(key) for key in ("training_steps", "hours", "seed"))
        cells = [name, row["architecture"], mean, *others]
        cells += ["–" if steps is None else f"{steps:,}", "–" if hours is None else f"{hours:.1f}"]
        lines.append(f"| {' | '.join([*cells, '–' if seed is None else str(seed)])} |")
    return "\n".join(lines)


def published_table() -> str:
    """Return the table of other people's agents, which are fetched on first use."""
    lines = ["| agent | network | mean score | licence |", "|---|---|---|---|"]
    for name, row in agent_rows().items():
        if "url" in row:
            mean = (row.get("score") or {}).get("mean", "–")
            lines.append(f"| {name} | {row['architecture']} | {mean} | {row['licence']} |")
    return "\n".join(lines)


def commands() -> str:
    """Return the commands that trained our agents, each once, with the agents of its run."""
    made: dict[str, list[str]] = {}
    for name, row in agent_rows().items():
        if row.get("command"):
            made.setdefault(" ".join(row["command"].split()), []).append(name)
    return "\n".join(f"* {', '.join(names)}:<br>`{line}`" for line, names in made.items())


# --- data/benchmarks/README.md


def speed_table() -> str:
    """Return the table of milliseconds per frame, from the record of the machine it names."""
    told = json.loads(SPEED.read_text())
    alone, both = told["1 thread"], told["2 threads"]
    lines = [
        "| agent | original, 1 thread | Captum's Occlusion, 1 | plain torch, 1 | ours, 1 | ours, 2 "
        "| ours at stride 1, 2 | original and Captum to ours, 1 thread |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for agent in (name for name in alone if "ms_per_frame" in alone[name]):
        one, two = (run[agent]["ms_per_frame"] for run in (alone, both))
        faster = alone[agent]["times_faster_than"]
        cells = [f"{one[key]:.0f}" for key in ("original", "captum occlusion", "torch")]
        cells += [f"{one['fast']:.1f}", f"{two['fast']:.1f}", f"{two['fast stride 1']:.0f}"]
        cells += [f"{faster['original']:.0f} x, {faster['captum occlusion']:.0f} x"]
        lines.append(f"| {agent} | {' | '.join(cells)} |")
    rates = told["agent_steps_per_second"].items()
    lines += ["", "| training, four epochs | agent steps per second |", "|---|---|"]
    lines += [f"| {name} | {rate:.0f} |" for name, rate in rates]
    return "\n".join(lines)


# --- writing


PARTS = {
    README: {"chapters": chapters_table},
    AGENTS / "README.md": {
        "agents": agents_table,
        "published": published_table,
        "commands": commands,
    },
    BENCHMARKS / "README.md": {"speed": speed_table},
}


def fill(text: str, name: str, part: str) -> str:
    """Replace what stands between `<!-- name: ... -->` and the next `<!-- end -->`.

    Raises:
        ValueError: if the markers do not stand in the text exactly once.
    """
    pattern = rf"(<!-- {name}: [^>]*-->\n).*?(<!-- end -->)"
    filled, count = re.subn(pattern, lambda m: f"{m[1]}\n{part}\n\n{m[2]}", text, flags=re.S)
    if count != 1:
        raise ValueError(f"expected the markers of {name!r} once, found them {count} times")
    return filled


def pages() -> dict[Path, str]:
    """Return path -> text of every page that is generated, wholly or in part."""
    found = {FIGURES / "README.md": figures_page(), NOTEBOOKS / "README.md": notebooks_page()}
    for path, parts in PARTS.items():
        if not path.is_file():
            continue
        text = path.read_text()
        for name, part in parts.items():
            text = fill(text, name, part())
        found[path] = text
    return found


def write() -> list[Path]:
    """Write every page that is not as it should be, and return their paths.

    Only a whole checkout has pages: without README.md nothing is written.
    """
    changed: list[Path] = []
    if not README.is_file():
        return changed
    if snippet() and not snippet_is_drawn():
        draw_snippet()
        changed.append(SNIPPET)
    for path, text in pages().items():
        if not path.is_file() or path.read_text() != text:
            with whole_file(path) as whole:
                whole.write_text(text)
            changed.append(path)
    return changed


def store_minutes() -> None:
    """Store how long the figures in `build/` took, beside the figures that were not drawn here."""
    from compendium.benchmark import machine

    record = stored_minutes()
    for figure in list_figures():
        run = BUILD / f"{figure}.ipynb"
        if run.is_file():
            papermill = json.loads(run.read_text())["metadata"].get("papermill", {})
            if papermill.get("duration"):
                record["seconds"][figure] = round(papermill["duration"], 1)
    record["machine"] = machine()
    with whole_file(MINUTES) as path:
        path.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
