"""The site is made of files that lead to one another, and asks nothing of another machine."""

import json
import re
import shutil

import nbformat
import pytest
import yaml
from browser import needs_chromium, open_browser

from atarilens.paths import NOTEBOOKS, ROOT
from compendium.pages import site
from compendium.pages.readmes import figures_of

# Those of the lesson, and a notebook with links into the glossary.
SOME = [
    path
    for path in sorted(NOTEBOOKS.glob("*.ipynb"))
    if path.stem[:2] in ("00", "02", "06", "11", "13", "20", "21")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small site: one notebook stands for those that were executed."""
    where = tmp_path_factory.mktemp("site")
    runs = where / "runs"
    runs.mkdir()
    for path in SOME:
        if not figures_of(path):
            shutil.copy(path, runs)
    notebook = nbformat.read(NOTEBOOKS / "20_build_saliency_from_scratch.ipynb", 4)
    tags = {"tags": ["injected-parameters"]}
    told = nbformat.v4.new_code_cell('seed = 3\nout_dir = "/somewhere/secret"', metadata=tags)
    told.outputs = [
        nbformat.v4.new_output("stream", text=f"a line that was printed: {ROOT / 'build'}/x.gif"),
        nbformat.v4.new_output("display_data", {site.WIDGET: {"model_id": "1"}}),
    ]
    notebook.cells.insert(2, told)
    nbformat.write(notebook, runs / "20_build_saliency_from_scratch.ipynb")
    (runs / "audit-pong-strong").mkdir()
    (runs / "audit-pong-strong" / "audit.html").write_text("<h1>An audit</h1>")
    (runs / "audit-pong-strong" / "game-0.npz").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site, "BUILD", runs)
        site.write_site(where / "site", SOME, recordings=())
    return where / "site"


def test_every_link_leads_somewhere(folder):
    assert site.check_links(folder) == []


def test_a_link_that_leads_nowhere_is_named(tmp_path):
    site.write_page(tmp_path / "index.html", "x", '<a href="gone.html">a</a> <h2 id="here">x</h2>')
    (tmp_path / "style.css").touch()
    for name in ("glossary", "lesson", "api"):
        site.write_page(tmp_path / f"{name}.html", "x", '<a href="index.html#here">a</a>')
    site.write_page(tmp_path / "lesson.html", "x", '<a href="index.html#there">a</a><script>')
    assert site.check_links(tmp_path) == [
        "index.html: gone.html",
        "lesson.html: index.html#there",
        "lesson.html: a script",
    ]


def test_a_figure_that_was_not_executed_here_shows_its_stored_picture(folder):
    text = (folder / "06_what_agents_attend_to--pong.html").read_text()
    assert '<img alt="" src="figures/06_what_agents_attend_to--pong.png">' in text


def test_an_audit_that_was_made_here_belongs_to_the_site(folder):
    text = (folder / "index.html").read_text()
    assert '<a href="audit-pong-strong/audit.html">Audit of pong-strong</a>' in text
    assert (folder / "audit-pong-strong" / "audit.html").read_text() == "<h1>An audit</h1>"
    assert not (folder / "audit-pong-strong" / "game-0.npz").exists()


def test_every_figure_has_a_page_with_its_picture_numbers_and_parameters(folder):
    text = (folder / "06_what_agents_attend_to--pong.html").read_text()
    for target in (
        "notebooks/06_what_agents_attend_to.ipynb",
        "params/06_what_agents_attend_to--pong.yml",
        "figures/06_what_agents_attend_to--pong.json",
        "figures/06_what_agents_attend_to--pong.png",
        "06_what_agents_attend_to--breakout.html",
        "glossary.html",
    ):
        assert f'href="{target}' in text
    drawn = [name for path in SOME for name in figures_of(path)]
    assert all((folder / f"{name}.html").is_file() for name in drawn)
    json.loads((folder / "figures/06_what_agents_attend_to--pong.json").read_text())


def test_a_page_shows_what_was_executed_and_no_path_of_this_machine(folder):
    text = (folder / "20_build_saliency_from_scratch.html").read_text()
    assert "a line that was printed: build/x.gif" in text
    assert str(ROOT) not in text
    assert "Something to click stands here when the notebook runs" in text
    assert "secret" not in text
    assert "mathrm" in text  # what the picture of the formula stands for
    assert "$$" not in text
    assert "<script" not in text


def test_the_library_is_described_by_its_docstrings(folder):
    text = (folder / "api.html").read_text()
    for name in ("play.rollout", "saliency.perturbation_saliency", "agents.load_agent"):
        assert f'id="{name}"' in text
    assert "Play an agent and keep every screen, observation, memory and decision." in text


@needs_chromium
def test_the_site_opens_from_its_folder(folder, tmp_path):
    with open_browser(tmp_path, 1200, 900) as page:
        told = []
        page.on("console", lambda message: told.append(message.text))
        page.goto((folder / "index.html").as_uri())
        page.click("text=Glossary")
        page.wait_for_selector("text=The words that the notebooks use")
        page.go_back()
        page.click("a[href='00_start_here.html'] >> nth=0")
        page.wait_for_selector("h1")
        broken = "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
        assert page.evaluate(broken) == []
        assert [url for url in page.outside if not url.startswith("file:")] == []
        assert told == []


def test_the_workflow_publishes_what_make_site_writes():
    path = ROOT / ".github" / "workflows" / "site.yml"
    workflow = yaml.load(path.read_text(), yaml.BaseLoader)  # `on` is a word here, not a truth
    job = workflow["jobs"]["publish"]
    assert workflow["on"]["push"] == {"branches": ["main"]}
    assert workflow["permissions"] == {"contents": "read", "pages": "write", "id-token": "write"}
    assert job["environment"]["name"] == "github-pages"
    assert [step["run"] for step in job["steps"] if "run" in step] == ["make site"]
    folders = [step["with"]["path"] for step in job["steps"] if "path" in step.get("with", {})]
    assert folders == [str(site.SITE.relative_to(ROOT))]
    oldest, newest = re.search(
        r"Python 3\.(\d+) to 3\.(\d+)", (ROOT / "README.md").read_text()
    ).groups()
    major, minor = job["steps"][1]["with"]["python-version"].split(".")
    assert major == "3"
    assert int(oldest) <= int(minor) <= int(newest)
