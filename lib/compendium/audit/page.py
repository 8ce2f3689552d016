"""Write an audit as one page of HTML that needs nothing else: no script, no server, no network."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from compendium.audit.moments import png
from compendium.audit.patches import GRID, free_effects, patches
from compendium.audit.statements import BEWARE, NOTICED, SHARES_OF_ONE, Statement, in_short

STYLE = Path(__file__).with_suffix(".css")
SECTIONS = {
    "scores": (
        "How well does it play?",
        "Whole games from the seeds 0, 1, 2 …, every one counted.",
    ),
    "attention": (
        "What does it attend to?",
        "Perturbation maps (Greydanus et al. 2018): each spot of the screen is blurred, and the "
        "map says how far the decision moves. The agent attends to an object if more of its map "
        "lies there than of three controls: an untrained network's map, the agent's own map half a "
        "game later, and a map of the screen's centre.",
    ),
    "answers": (
        "How does it answer changes of the game?",
        "The same decision is taken twice: in the game as it was, and in the game with one thing "
        "changed in the console's memory just before, with the same actions until then. Less than "
        f"{NOTICED:.0%} of the policy counts as no answer.",
    ),
    "shortcuts": (
        "By which shortcuts?",
        "The audit reads no setting of the agent. It paints patches of the screen over and swaps "
        "what they show, covers digits, compares games with one another, and moves objects.",
    ),
    "maps": (
        "How far can its maps be trusted?",
        "A map promises that an object matters. Painting the object over, removing it in the game, "
        "or moving it in the game shows how much it does. You can trust a map with one of these "
        "three questions if it ranks objects by their effect better than six controls do.",
    ),
}
MISSING = {
    "answers": "This game has no table of changes: nothing can be moved or removed in it.",
    "maps": "This game has no table of changes: what a map promises cannot be checked here.",
}
UNITS = {  # unit -> words, and the scale of the chart; None: from the numbers
    "points": ("points", None),
    "NSS": ("standardised saliency, 0 is chance", None),
    "policy": ("of the policy moves", (0.0, 1.0)),
    "towards": ("towards the expected action", (-1.0, 1.0)),
    "share": ("share", (0.0, 1.0)),
    "followed": ("decisions follow the patch", (0.0, 1.0)),
    "correlation": ("rank correlation", (-1.0, 1.0)),
    "games": ("different games", None),
}
TONES = {"good": "#11663f", "bad": "#a3201a", "odd": "#8a5200", "open": "#4b5a68"}


def write(
    facts: Mapping,
    statements: Sequence[Statement],
    found: Sequence[Mapping],
    suspects: Sequence[Mapping],
    out: Path,
) -> str:
    """Return the page.

    Args:
        facts: of `audit.facts_of`.
        statements: all of them.
        found: what was measured in each game.
        suspects: patches that were checked.
        out: folder of the replays, which the page holds.
    """
    name, title = escape(facts["agent"]), escape(facts["title"])
    short = "".join(
        f"<dt>{escape(head)}</dt><dd{' class=bad' * (head == BEWARE)}>{escape(words)}</dd>"
        for head, words in in_short(statements)
    )
    pictures = {"attention": _maps(found), "shortcuts": _patches(found, suspects, facts["region"])}
    parts = []
    for section, (heading, lead) in SECTIONS.items():
        rows = [each for each in statements if each.section == section]
        body = "".join(_row(each, rows) for each in rows)
        if not rows:
            body = f'<p class="note">{MISSING[section]}</p>'
        parts.append(
            f'<section id="{section}"><h2>{heading}</h2><p class="lead">{lead}</p>'
            f"{pictures.get(section, '')}{body}</section>"
        )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>Audit of {name}</title>"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE.read_text(encoding='utf-8')}</style></head>\n<body><header><div>"
        f"<h1>Audit of {name}</h1><p>{title} · network {escape(str(facts['network']))} · reads "
        f"{escape(facts['preprocessing'])} · sha256 {facts['sha256'][:12]}</p></div></header>\n"
        f"<main><h2>In a minute</h2><dl class='short'>{short}</dl>{_notes(facts)}\n"
        + "\n".join(parts)
        + _again(facts, out)
        + "</main></body></html>\n"
    )


def _notes(facts: Mapping) -> str:
    notes = ["Numbers are means over games; brackets are 95 % intervals over games."]
    if facts["fixed_skip"]:
        notes.append(
            "The agent was trained with a drawn number of emulator frames per step. For everything "
            "but the scores it plays with their mean, as changes of the game need a fixed number."
        )
    if facts["q_values"]:
        notes.append("Its network gives Q-values: its policy is the action of the highest one.")
    if not facts["has_objects"]:
        notes.append(
            f"Where the objects of {facts['title']} are is not known: attention is given by region."
        )
    return "".join(f'<p class="lead">{escape(note)}</p>' for note in notes)


def _row(each: Statement, rows: Sequence[Statement]) -> str:
    """Write one statement: its subject, verdict and text, its number with a small chart."""
    words, scale = UNITS.get(each.unit, ("", None))
    number = ""
    if each.number is not None:
        ends = f"[{_written(each.low, each.unit)}, {_written(each.high, each.unit)}]"
        ends = ends if np.isfinite(each.low) else "too few games for an interval"
        ends = "" if not each.values else ends
        number = f"<b>{_written(each.number, each.unit)}</b> {ends}<small>{words}</small>"
        if each.values:
            number += _chart(each, scale or _scale(rows, each.unit))
    values = ", ".join("–" if v is None else f"{v:.4g}" for v in each.values)
    recreate = f"<pre>{escape(each.recreate)}</pre>" if each.recreate else ""
    per_game = f"<p>Game by game: {values}</p>" if values else ""
    return (
        f'<div class="row"><div><h3>{escape(each.subject)}</h3>'
        f'<span class="chip {each.tone}">{escape(each.verdict)}</span></div>'
        f"<div><p>{escape(each.text)}</p><details><summary>re-create it</summary>{per_game}"
        f'{recreate}</details></div><div class="number">{number}</div></div>'
    )


def _written(value: float, unit: str) -> str:
    if unit in SHARES_OF_ONE:
        return f"{value:.0%}"
    if unit == "games":
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{round(value, 1):g}"
    return f"{value:+.2f}" if unit == "towards" else f"{value:.2f}"


def _scale(rows: Sequence[Statement], unit: str) -> tuple[float, float]:
    """Return the ends of the charts of one unit in one section: all numbers, intervals and 0."""
    alike = [each for each in rows if each.unit == unit]
    ends = [
        0.0,
        *(v for each in alike for v in (each.number, each.low, each.high) if v is not None),
    ]
    ends = [float(v) for v in ends if np.isfinite(v)]
    low, high = min(ends), max(ends)
    return (low, high) if high > low else (low, low + 1)


def _chart(each: Statement, scale: tuple[float, float]) -> str:
    """Draw the mean as a dot, its interval as a bar, each game as a tick, zero as a line."""
    low, high = scale
    width, colour = 220, TONES[each.tone]

    def at(value: float) -> float:
        return 6 + (width - 12) * (min(max(value, low), high) - low) / (high - low)

    marks = [f'<line x1="6" x2="{width - 6}" y1="13" y2="13" stroke="#dde4ea" stroke-width="2"/>']
    if low <= 0 <= high:
        zero = at(0.0)
        marks.append(f'<line x1="{zero:.1f}" x2="{zero:.1f}" y1="3" y2="23" stroke="#8796a5"/>')
    for value in (v for v in each.values if v is not None):
        marks.append(
            f'<line x1="{at(value):.1f}" x2="{at(value):.1f}" y1="17" y2="23" stroke="{colour}" '
            'stroke-opacity="0.45"/>'
        )
    if np.isfinite(each.low):
        marks.append(
            f'<line x1="{at(each.low):.1f}" x2="{at(each.high):.1f}" y1="13" y2="13" '
            f'stroke="{colour}" stroke-width="5" stroke-opacity="0.4" stroke-linecap="round"/>'
        )
    marks.append(f'<circle cx="{at(each.number):.1f}" cy="13" r="5" fill="{colour}"/>')
    return f'<svg width="{width}" height="26" role="img" aria-hidden="true">{"".join(marks)}</svg>'


def _maps(found: Sequence[Mapping]) -> str:
    figures = []
    for part in found[:4]:
        words = f"Game {part['seed']}, step {part['picture']['step']}: blue moves the actions, "
        words += "orange-red the value."
        figures.append(_figure(part["picture"]["map"], "screen with its saliency", words))
    return f'<div class="pictures">{"".join(figures)}</div>'


def _figure(picture: str, alt: str, words: str) -> str:
    """Write a PNG in base64 with its caption."""
    image = f'<img alt="{alt}" src="data:image/png;base64,{picture}">'
    return f"<figure>{image}<figcaption>{words}</figcaption></figure>"


def _patches(found: Sequence[Mapping], suspects: Sequence[Mapping], region: Sequence[int]) -> str:
    """Draw how far each patch moves the policy: at all moments, and without objects in it."""
    screen = base64.b64decode(found[0]["picture"]["screen"])
    image = np.asarray(Image.open(io.BytesIO(screen)).convert("L"), np.float32)
    scans = [part["patches"] for part in found]
    painted, swapped = (
        np.concatenate([np.array(each[key]).reshape(-1, GRID**2) for each in scans]).mean(0)
        for key in ("tv", "swapped")
    )
    drawn = {
        "Each patch painted over: the brighter, the further the policy moves": painted,
        "Each patch as it was at another moment": swapped,
        "The larger of both, at moments without an object in the patch (grey: too few)": (
            free_effects(scans)
        ),
    }
    figures = []
    top = max(float(np.nanmax(each, initial=0)) for each in drawn.values()) or 1.0
    for words, effects in drawn.items():
        picture = np.repeat(image[..., None] * 0.45, 3, axis=2)
        for (a, b, c, d), effect in zip(patches(region), effects, strict=True):
            if np.isfinite(effect):
                share = 0.85 * effect / top
                colour = np.array([255, 150, 30], np.float32)
                picture[a:b, c:d] = (1 - share) * picture[a:b, c:d] + share * colour
            else:
                picture[a:b, c:d] = 0.6 * picture[a:b, c:d] + 50
        shown = Image.fromarray(picture.clip(0, 255).astype(np.uint8)).resize((480, 630), 0)
        pen = ImageDraw.Draw(shown)
        for each in suspects:
            a, b, c, d = each["box"]
            pen.rectangle((3 * c, 3 * a, 3 * d - 1, 3 * b - 1), outline="white", width=3)
        words += f". Full colour: {top:.0%}.{' White: checked further.' if suspects else ''}"
        figures.append(_figure(png(np.asarray(shown)), "effect of each patch", words))
    return f'<div class="pictures">{"".join(figures)}</div>'


def _again(facts: Mapping, out: Path) -> str:
    """Write what re-creates every statement: the first lines of Python, replays, hashes."""
    lines = [
        "from dataclasses import replace",
        "from pathlib import Path",
        "from atarilens import load_agent, play",
        "from compendium import audit",
        f"agent = {facts['loaded_as']}",
        'game = play.replay("game-0.npz", agent)  # the file of game 0, below',
    ]
    rows = []
    for name, hashes in facts["replays"].items():
        content = base64.b64encode((out / name).read_bytes()).decode()
        link = (
            f'<a download="{name}" href="data:application/octet-stream;base64,{content}">{name}</a>'
        )
        rows.append(
            f"<tr><td>{link}</td><td>{hashes['frames']}</td><td>{hashes['ram'][:16]}…</td></tr>"
        )
    made = ", ".join(f"{name} {number}" for name, number in facts["made_with"].items())
    settings = ", ".join(f"{key} {value}" for key, value in facts["settings"].items())
    return (
        '<section id="again"><h2>How to re-create it</h2>'
        "<p class='lead'>Every statement names the Python that gives its numbers again, after "
        "these lines, for game 0; the other games differ in their seed or replay. A replay "
        "re-creates its game bit for bit, and raises an error if it does not.</p>"
        f"<pre>{escape(chr(10).join(lines))}</pre>"
        "<table><tr><th>replay (click to save)</th><th>sha256 of its screens</th>"
        f"<th>of its RAM</th></tr>{''.join(rows)}</table>"
        f"<p class='lead'>Agent: sha256 {facts['sha256']}. Settings: {escape(settings)}. "
        f"Made with {escape(made)}.</p></section>"
    )
