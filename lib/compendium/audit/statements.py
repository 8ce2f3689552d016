"""Turn what was measured into statements: plain words, a number with its interval, a verdict."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from atarilens import games, measures
from atarilens.games.interventions import parse
from atarilens.games.record import Change
from atarilens.measures.intervals import mean_interval
from compendium.audit.patches import free_effects

FEWEST = 3  # games that an interval needs
NOTICED = 0.05  # total variation of the policy, or difference of probabilities: less is nothing
SHARE = 0.5  # of decisions that follow one patch, or of situations met before: more is a shortcut
ATTENTION_CONTROLS = {
    "untrained": "an untrained network",
    "other times": "the same map half a game later",
    "centre": "a map of the screen's centre",
}
MAP_CONTROLS = {
    "untrained": "the map of an untrained network",
    "other times": "its own map of another time",
    "centre": "a map of the screen's centre",
    "edges": "an edge detector",
    "random": "noise",
    "image-change": "the change that the blur makes in the picture",
}
EFFECTS = {
    "painted": "painting an object over",
    "removed": "removing an object in the game",
    "moved": "moving an object 8 px in the game",
}
REGIONS = [
    f"{row} {column}"
    for row in ("top", "middle", "bottom")
    for column in ("left", "centre", "right")
]
SHARES_OF_ONE = ("policy", "share", "followed")  # units whose intervals end at 0 and at 1
BEWARE = "Beware"  # heading of what a reader must know before all else
NAN = (float("nan"), float("nan"))


@dataclass(frozen=True)
class Statement:
    """One line of an audit.

    Attributes:
        section: "scores", "attention", "answers", "shortcuts" or "maps".
        subject: what it is about, in a few words.
        text: the statement, in a sentence or two.
        verdict: in one to four words.
        tone: "good", "bad", "odd" or "open": how a reader should take it.
        number: mean over games, in the unit; None if there is none.
        low: lower end of its 95 % interval; NaN with fewer than three games.
        high: upper end.
        unit: of the number.
        values: one per game.
        recreate: Python that gives these values again, after the page's first lines.
    """

    section: str
    subject: str
    text: str
    verdict: str
    tone: str
    number: float | None = None
    low: float = NAN[0]
    high: float = NAN[1]
    unit: str = ""
    values: list = field(default_factory=list)
    recreate: str = ""


def over(values: Sequence) -> tuple[float, float, float]:
    """Return mean and 95 % interval over games; values that are None or NaN are left out."""
    kept = np.array([v for v in values if v is not None and np.isfinite(v)], np.float64)
    if not len(kept):
        return float("nan"), *NAN
    low, high = mean_interval(kept) if len(kept) >= FEWEST else NAN
    return float(kept.mean()), float(low), float(high)


def numbers(values: Sequence, unit: str) -> dict:
    """Return the fields of a statement that hold its number."""
    mean, low, high = over(values)
    number = mean if np.isfinite(mean) else None
    if unit in SHARES_OF_ONE:
        low, high = max(low, 0.0), min(high, 1.0)
    return {"number": number, "low": low, "high": high, "unit": unit, "values": list(values)}


def by_game(parts: Sequence[Mapping], key: str, pick: Callable, value: Callable) -> list:
    """Average a value over the rows of each game that `pick` keeps; None for a game without."""
    found = []
    for part in parts:
        values = [value(row) for row in part[key] if pick(row)]
        values = [v for v in values if v is not None]
        found.append(float(np.mean(values)) if values else None)
    return found


# --- scores


def about_scores(scores: Mapping[str, Mapping], game: str, q_values: bool) -> list[Statement]:
    """Say how well it plays: as it was trained to choose, greedily, and with sticky actions.

    Args:
        scores: condition -> "returns", "lengths" and "truncated" per game, and "frames", the cut.
        game: name.
        q_values: whether its network gives Q-values, which are played greedily.
    """
    record, found = games.game(game), []
    usual = scores["sampled"]["returns"]
    words = {
        "sampled": "if it draws each action from its policy",
        "greedy": "if it always takes the likeliest action",
        "sticky": "if the emulator repeats the last action with probability 0.25 per frame",
    }
    if q_values:
        words["sampled"] = "if it takes the action of the highest Q-value, as it was trained to"
    for name, each in scores.items():
        mean, low, high = over(each["returns"])
        cut = sum(each["truncated"])
        text = f"It scores {round(mean, 1):g} {words[name]}"
        falls = min(each["returns"]) < 0 or (record.random_score or 0) < 0
        if cut:
            text += f"; {cut} of {len(each['returns'])} games were cut off after "
            text += f"{each['frames']:,} emulator frames, "
            text += "and points can still be lost" if falls else "so that this is a lower bound"
        verdict, tone = "measured", "open"
        if name == "sampled" and record.random_score is not None:
            text += f". Random play scores {record.random_score:g}, a person {record.human_score:g}"
            if cut and (falls or not low > record.random_score):
                verdict, tone = ("cut off: no comparison", "open")
            elif low > record.random_score:
                verdict, tone = ("plays", "good")
            elif high < record.random_score:
                verdict, tone = ("below random play", "bad")
            elif np.isfinite(low):
                above = min(each["returns"]) > record.random_score  # every single game
                verdict = "too few games to tell" if above else "cannot be told from random play"
        elif name != "sampled":
            test = measures.outcome(*_difference(each["returns"], usual)[1:], len(usual), None)
            verdict, tone = {
                "holds": ("higher", "good"),
                "reversed": ("lower", "odd"),
            }.get(test, ("no clear difference", "open"))
        greedy = {"sampled": None, "greedy": True, "sticky": None}[name]
        sticky = ", repeat_action_probability=0.25" if name == "sticky" else ""
        recreate = (
            f"play.evaluate(agent, {len(usual)}, 0, {greedy}, "
            f"replace(agent.settings, max_frames={each['frames']}{sticky})).returns"
        )
        found.append(
            Statement(
                *("scores", name, text + ".", verdict, tone),
                **numbers(each["returns"], "points"),
                recreate=recreate,
            )
        )
    return found


def _difference(values: Sequence[float], others: Sequence[float]) -> tuple[float, float, float]:
    mean, interval = measures.mean_difference(values, others)
    return mean, *interval


# --- attention


def about_attention(parts: Sequence[Mapping], game: str, again: str) -> list[Statement]:
    """Say on which objects its perturbation maps lie, against controls; else in which regions."""
    if not any(np.any(part["regions"]["perturbation"]) for part in parts):
        text = "No blurred spot of the screen moves its decisions: its maps are zero everywhere."
        recreate = f'{again}["regions"]["perturbation"]'
        return [Statement("attention", "the screen", text, "empty maps", "bad", recreate=recreate)]
    if not games.has_objects(game):
        return [_about_regions(parts, again)]
    found = []
    for head in ("actor", "critic"):
        objects = dict.fromkeys(name for p in parts for name in p["attention"].get(head, {}))
        found += [_about_object(parts, head, name, again) for name in objects]
    return found


def _about_object(parts: Sequence[Mapping], head: str, name: str, again: str) -> Statement:
    entries = [part["attention"].get(head, {}).get(name, {}) for part in parts]
    series = {
        condition: np.array([entry.get(condition, np.nan) for entry in entries], np.float64)
        for condition in ("agent", *ATTENTION_CONTROLS)
    }
    own = over(series["agent"])[0]
    tests = _against(series, "agent", ATTENTION_CONTROLS, measures.verdicts.NSS_MARGIN)
    word = measures.joint_outcome(tests) if tests else "undecided"
    verdict, tone = {
        "holds": ("more than every control", "good"),
        "reversed": ("less than a control", "odd"),
        "absent": ("no more than a control", "odd"),
        "undecided": ("undecided", "open"),
    }[word]
    against = ", ".join(
        f"{over(series[c])[0]:.2f} {words}" for c, words in ATTENTION_CONTROLS.items()
    )
    text = f"The {head}'s map on the {name}: {own:.2f}, where 0 is chance. Controls: {against}."
    values = [None if np.isnan(v) else float(v) for v in series["agent"]]
    return Statement(
        *("attention", f"{name} ({head})", text, verdict, tone),
        **numbers(values, "NSS"),
        recreate=f'{again}["attention"]["{head}"]["{name}"]',
    )


def _about_regions(parts: Sequence[Mapping], again: str) -> Statement:
    own, control = (
        np.array([part["regions"][name] for part in parts])
        for name in ("perturbation", "untrained")
    )
    best = int(own.mean(0).argmax())
    test = measures.contrast(own[:, best], control[:, best], margin=0.05)
    verdict, tone = {
        "holds": ("more than untrained", "good"),
        "reversed": ("less than untrained", "odd"),
        "absent": ("as untrained", "odd"),
    }.get(test["outcome"], ("undecided", "open"))
    text = (
        f"{own[:, best].mean():.0%} of its maps lie in the {REGIONS[best]} of what it reads, an "
        f"even spread would be 11 %; of an untrained network's maps {control[:, best].mean():.0%}."
    )
    return Statement(
        *("attention", REGIONS[best], text, verdict, tone),
        **numbers(own[:, best].tolist(), "share"),
        recreate=f'{again}["regions"]',
    )


def _against(series: Mapping, own: str, controls: Mapping, margin: float | None) -> dict:
    """Return control -> `measures.contrast`, for the controls that have a number in some game."""
    return {
        name: measures.contrast(series[own], series[name], margin=margin)
        for name in controls
        if (np.isfinite(series[own]) & np.isfinite(series[name])).any()
    }


# --- answers


def about_answers(parts: Sequence[Mapping], game: str) -> list[Statement]:
    """Say how it answers each change of the game: as expected, not at all, the wrong way."""
    labels = {row["label"] for part in parts for row in part["changes"]}
    order = list(games.game(game).changes)
    labels = sorted(labels - {"null"}, key=lambda each: (order.index(kind_of(each)), each))
    found = [_about_change(parts, game, label) for label in labels]
    null = [row["tv"] for part in parts for row in part["changes"] if row["label"] == "null"]
    if null and max(null) > 0:
        raise ValueError("a change that changes nothing moved the policy: the emulator is off")
    tried = dict.fromkeys(name for part in parts for name in part["skipped"])
    for name in tried:
        if name not in labels:
            reasons = {r: n for part in parts for r, n in part["skipped"].get(name, {}).items()}
            text = f"It could not be made at any moment: {max(reasons, key=reasons.get)}."
            found.append(Statement("answers", words_of(name, game), text, "not tried", "open"))
    return found


def words_of(label: str, game: str) -> str:
    """Return a change in words: `ball_x-8` is "ball 8 px left", `brick_gone` "brick gone"."""
    moves = games.game(game).changes[kind_of(label)].kind == "move"
    return parse(label, game).words if moves else label.replace("_", " ").replace(":", ": ")


def _call(parts: Sequence[Mapping], key: str, subject: str) -> str:
    """Write the call of `play.intervene` that measured a change, or a moved object, in one game."""

    def of(part: Mapping) -> list[Mapping]:
        return [row for row in part[key] if subject in (row["label"], row.get("object"))]

    part = next(part for part in parts if of(part))
    steps = sorted({row["t"] for row in of(part)})
    names = sorted({row.get("name", row["label"]) for row in of(part)})
    game = "game" if part is parts[0] else f'play.replay("game-{part["seed"]}.npz", agent)'
    options = f", history={part['history']}" if part["history"] else ""
    options += ", horizon=30" if key == "futures" else ""
    return f"play.intervene({game}, agent, {steps}, {names}{options})"


def kind_of(label: str) -> str:
    """Return the name of a change in the game's record: `ball_x-8` is `ball_x`."""
    return re.split(r"[-+:]", label)[0]


def _about_change(parts: Sequence[Mapping], game: str, label: str) -> Statement:
    rows = [row for part in parts for row in part["changes"] if row["label"] == label]
    named = parse(rows[0]["name"], game)
    change: Change = named.change
    words = words_of(label, game)

    def mean(key: str) -> list:
        return by_game(parts, "changes", lambda r: r["label"] == label, lambda r: r[key])

    recreate = f"[audit.answers.effect_rows(agent, b) for b in {_call(parts, 'changes', label)}]"
    moved, directed = mean("tv"), any(change.towards)
    tv, low, high = over(moved)
    expected = f"Expected: {change.meaning}" if change.meaning else "How it should answer is open"
    text = f"{expected}. The policy moves by {tv:.0%} of its probability"
    kept = {"recreate": recreate} | numbers(moved, "policy")
    if not any(row["seen"] for row in rows):
        text = f"{expected}. It lies outside of what the agent reads."
        return Statement("answers", words, text, "cannot see it", "open", **kept)
    if directed:
        towards = mean("towards")
        kept |= numbers(towards, "towards")
        centre, below, above = over(towards)
        calls, against = (" or ".join(part) for part in change.towards)
        if named.amount < 0:
            calls, against = against, calls
        text += f"; P({calls}) - P({against}) changes by {centre:+.2f}"
        if high < NOTICED:
            verdict = ("not at all", "odd")
        elif below > 0:
            verdict = ("as expected", "good")
        elif above < 0:
            verdict = ("the wrong way", "bad")
        elif below > -NOTICED and above < NOTICED:
            verdict = ("moves, but neither way", "odd")
        else:
            verdict = ("undecided", "open")
    elif change.kind == "decorate" or change.meaning.startswith("nothing:"):
        if high < NOTICED:
            verdict = ("as expected: none", "good")
        else:
            verdict = (
                ("reacts to what is nothing", "odd") if low > NOTICED else ("undecided", "open")
            )
    elif low > NOTICED:
        verdict = ("reacts", "good")
    else:
        verdict = ("not at all", "odd") if high < NOTICED else ("undecided", "open")
    return Statement("answers", words, text + f" ({len(rows)} moments).", *verdict, **kept)


# --- shortcuts


def about_shortcuts(
    parts: Sequence[Mapping], scores: Mapping, suspects: Sequence[Mapping], game: str, again: str
) -> list[Statement]:
    """Say which shortcuts were looked for, and which were found."""
    found = [_about_suspect(each) for each in suspects]
    if not suspects:
        largest = free_effects([part["patches"] for part in parts])
        most = np.nanmax(largest) if np.isfinite(largest).any() else 0.0
        kind = "without an object of the game" if games.has_objects(game) else "of the screen"
        text = (
            "Each of 64 patches was painted over, and shown as it was at another moment. Of the "
            f"patches {kind}, the one that matters most moves the policy by {most:.0%} of its "
            "probability."
        )
        found.append(
            Statement(
                *("shortcuts", "a cheat sheet on the screen", text, "not found", "good"),
                number=float(most),
                unit="policy",
                recreate=f'audit.patches.free_effects([{again}["patches"]])',
            )
        )
    found.append(_about_digits(parts, again))
    found += _about_copies(parts, scores, again)
    found += _about_futures(parts, game)
    return found


def _about_suspect(each: Mapping) -> Statement:
    box, beside = each["box"], each["beside"]
    rows, columns = f"rows {box[0]} to {box[1] - 1}", f"columns {box[2]} to {box[3] - 1}"
    painted, flips, followed, control = (
        [entry[key] for entry in entries]
        for entries, key in (
            (each["games"], "painted"),
            (each["games"], "flips"),
            (each["games"], "followed"),
            (beside["games"], "followed"),
        )
    )
    mean, low, _ = over(followed)
    other = over(control)[0]
    text = (
        f"The patch at {rows}, {columns} holds no object of the game. Painted over, it moves the "
        f"policy by {over(painted)[0]:.0%} and changes {over(flips)[0]:.0%} of the decisions."
    )
    if np.isfinite(mean):
        text += " If it shows what it showed at another moment, the agent decides as it did then "
        text += f"in {mean:.0%} of the cases"
        text += f" (a patch half a screen away: {other:.0%})." if np.isfinite(other) else "."
    verdict, tone = ("scenery", "odd")
    if low > SHARE or (np.isnan(low) and mean > SHARE):
        verdict, tone = ("found: it follows the patch", "bad")
    elif np.isnan(mean):
        verdict, tone = ("undecided", "open")
    elif mean < 0.1:
        text += " So the patch tells it nothing about the game, but it stumbles if it is gone."
    else:
        verdict, tone = ("decides in part by it", "odd")
    if each.get("scores"):
        without, only, usual = (np.mean(each["scores"][k]) for k in ("without", "only", "usual"))
        text += (
            f" It scores {without:.4g} without the patch and {only:.4g} with nothing but the "
            f"patch, against {usual:.4g} on the same seeds."
        )
    return Statement(
        *("shortcuts", "a patch without objects", text, verdict, tone),
        **numbers(followed, "followed"),
        recreate=f"audit.patches.question(agent, game, range(20, len(game), 20), {list(box)})",
    )


def _about_digits(parts: Sequence[Mapping], again: str) -> Statement:
    subject, recreate = "the score's digits", f'{again}["digits"]'
    if not any(part["digits"]["seen"] for part in parts):
        text = "They lie outside of what the agent reads."
        return Statement("shortcuts", subject, text, "cannot see them", "good", recreate=recreate)
    values = [part["digits"].get("tv") for part in parts]
    mean, low, high = over(values)
    flips = over([part["digits"].get("flips") for part in parts])[0]
    text = f"Painted over, they move the policy by {mean:.0%} and change {flips:.0%} of decisions."
    verdict, tone = ("undecided", "open")
    if low > NOTICED:
        verdict, tone = ("it reads them", "bad")
    elif high < NOTICED:
        verdict, tone = ("not found", "good")
    kept = numbers(values, "policy")
    return Statement("shortcuts", subject, text, verdict, tone, **kept, recreate=recreate)


def _about_copies(parts: Sequence[Mapping], scores: Mapping, again: str) -> list[Statement]:
    greedy = scores["greedy"]
    games_played = list(zip(greedy["returns"], greedy["lengths"], strict=True))
    different = len(set(games_played))
    text = (
        f"{different} of {len(games_played)} greedy games from different seeds differ in score or "
        "length."
    )
    copies = different <= len(games_played) / 2
    verdict = ("not found", "good")
    if copies:
        verdict = (f"found: {different} of {len(games_played)} differ", "bad")
    statements = [
        Statement(
            *("shortcuts", "copies of one game", text, *verdict),
            number=float(different),
            unit="games",
            recreate=f"play.evaluate(agent, {len(games_played)}, 0, True).lengths",
        )
    ]
    shares = []
    for k, part in enumerate(parts):
        others = {name for j, other in enumerate(parts) if j != k for name in other["situations"]}
        if others:
            shares.append(float(np.mean([name in others for name in part["situations"]])))
    if shares:
        mean, low, high = over(shares)
        text = f"{mean:.0%} of the situations of a game came up in another game, too."
        verdict = ("undecided", "open")
        if low > SHARE:
            verdict = ("found: it repeats itself", "bad")
        elif high < SHARE:
            verdict = ("not found", "good")
        kept = numbers(shares, "share") | {"recreate": f'{again}["situations"]'}
        statements.append(Statement("shortcuts", "one repeated rally", text, *verdict, **kept))
    return statements


def _about_futures(parts: Sequence[Mapping], game: str) -> list[Statement]:
    """Say what a moved object costs within two seconds."""
    if not all("futures" in part for part in parts):
        return []
    found = []
    for thing in dict.fromkeys(row["object"] for part in parts for row in part["futures"]):
        values = by_game(
            parts, "futures", lambda r, o=thing: r["object"] == o, lambda r: r["points"]
        )
        mean, low, high = over(values)
        text = (
            f"If the {thing} is moved 8 px in the game, the agent makes {mean:+.2f} points within "
            "the next 30 steps, compared with the game as it was."
        )
        verdict = ("no clear cost", "open")
        if high < 0:
            verdict = ("costs points", "odd")
        elif low > 0:
            verdict = ("gains points", "open")
        elif low == high == 0:
            verdict = ("costs nothing", "good")
        recreate = f"[b.future.rewards.sum(1) for b in {_call(parts, 'futures', thing)}]"
        kept = numbers(values, "points") | {"recreate": recreate}
        found.append(Statement("shortcuts", f"after a moved {thing}", text, *verdict, **kept))
    return found


# --- maps


def about_maps(parts: Sequence[Mapping], maps: Sequence[str], again: str) -> list[Statement]:
    """Say whether each map predicts what changing objects does to this agent."""
    return [_about_map(parts, name, effect, again) for effect in EFFECTS for name in maps]


def _about_map(parts: Sequence[Mapping], name: str, effect: str, again: str) -> Statement:
    rows = [
        ((k, row["t"], row["object"]), row)
        for k, part in enumerate(parts)
        for row in part["objects"]
        if row[effect] is not None
    ]
    words = EFFECTS[effect]
    subject, recreate = f"{name}: {words}", f'{again}["objects"]'
    effects = {key: row[effect] for key, row in rows}
    series, overall = {}, {}
    for each in (name, *MAP_CONTROLS):
        shares = {key: row["shares"][each] for key, row in rows}
        shares = {key: value for key, value in shares.items() if value is not None}
        series[each] = np.full(len(parts), np.nan)
        if shares:
            agreed = measures.agreement(shares, effects)
            overall[each] = agreed
            present = sorted({key[0] for key in shares})
            series[each][present] = agreed.by_episode
    if name not in overall or not np.isfinite(series[name]).any():
        reason = (
            "no object was changed" if not rows else "the map or the effect is the same for all"
        )
        text = f"Whether the {name} map predicts what {words} does is undefined: {reason}."
        return Statement("maps", subject, text, "undefined", "open", recreate=recreate)
    tests = _against(series, name, MAP_CONTROLS, None)
    word = measures.joint_outcome(tests) if tests else "undecided"
    best = max(tests, key=lambda c: tests[c]["control"], default=None)
    own = overall[name]
    text = (
        f"Rank correlation of the map's share on an object with the effect of {words}: "
        f"{over(series[name])[0]:.2f}; of two objects of a moment, the map names the one with the "
        f"larger effect in {own.concordance:.0%} of {own.pairs} pairs. "
    )
    if best:
        text += f"Best control: {tests[best]['control']:.2f} ({MAP_CONTROLS[best]})."
    verdict, tone = {
        "holds": ("trust it here", "good"),
        "reversed": ("a control is better", "bad"),
        "absent": ("no better than a control", "odd"),
        "undecided": ("not shown to be better", "open"),
    }[word]
    values = [None if np.isnan(v) else float(v) for v in series[name]]
    kept = numbers(values, "correlation") | {"recreate": recreate}
    return Statement("maps", subject, text, verdict, tone, **kept)


def in_short(statements: Sequence[Statement]) -> list[tuple[str, str]]:
    """Return (heading, sentence) of each section, for readers who have a minute."""

    def of(section: str) -> list[Statement]:
        return [each for each in statements if each.section == section]

    lines = []
    if _ignores_the_screen(statements):
        text = "It ignores the screen: no spot that was blurred, painted over or shown as it was "
        lines.append((BEWARE, text + "at another moment moves its decisions."))
    scored = {each.subject: f"{round(each.number, 1):g}" for each in of("scores")}
    said = "{sampled} points; {greedy} greedily, {sticky} with sticky actions"
    lines.append(("Plays", said.format(**scored)))
    seen = [each.subject for each in of("attention") if each.tone == "good"]
    lines.append(("Attends to", ", ".join(seen) or "nothing beyond its controls"))
    answers = of("answers")
    if answers:
        counts = {
            "as expected": sum(each.verdict.startswith("as expected") for each in answers),
            "with a reaction (no direction is expected)": sum(
                each.verdict == "reacts" for each in answers
            ),
            "not at all, or neither way": sum(each.tone == "odd" for each in answers),
            "the wrong way": sum(each.verdict == "the wrong way" for each in answers),
            "undecided or not seen": sum(each.tone == "open" for each in answers),
        }
        said = "; ".join(f"{count} {words}" for words, count in counts.items() if count)
        lines.append((f"Answers to {len(answers)} changes of the game", said))
    short = [each for each in of("shortcuts") if each.tone == "bad"]
    said = "; ".join(f"{each.subject}: {each.verdict.removeprefix('found: ')}" for each in short)
    lines.append(("Shortcuts", said or "none found"))
    maps = of("maps")
    trusted = [each.subject.split(": ") for each in maps if each.tone == "good"]
    if maps:
        by_effect = {
            words: ", ".join(name for name, effect in trusted if effect == words)
            for words in EFFECTS.values()
        }
        said = "; ".join(f"for {words}: {names}" for words, names in by_effect.items() if names)
        lines.append(("Maps to trust", said or "none is shown to beat its controls"))
    return lines


def _ignores_the_screen(statements: Sequence[Statement]) -> bool:
    """Return whether nothing that was done to the screen moved a decision."""
    empty = any(each.verdict == "empty maps" for each in statements)
    moved = [s.number for s in statements if s.unit == "policy" and s.number is not None]
    return empty and not any(moved)
