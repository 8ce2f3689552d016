"""The command line behind the Makefile: `make evaluate AGENT=pong-strong EPISODES=3`.

make calls `python -m compendium evaluate`, and its variables are read from the environment; the
same variables may follow the verb: `python -m compendium evaluate AGENT=pong-strong EPISODES=3`.
A verb is a function of `commands`, a variable is one of its parameters.
"""

import inspect
import os
import re
import sys
import typing
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from types import NoneType
from typing import Any

from compendium import commands

OF_MAKE = {"PY", "PYTHON", "VENV", "JOBS", "TESTS", "LAB", "APP"}  # read by the Makefile itself
WORDS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
EXPECTED = {
    int: "a whole number",
    commands.Count: "a whole number above 0",
    commands.Natural: "a whole number, 0 or more",
    commands.Chance: "a probability from 0 to 1",
    float: "a number",
    bool: "1 or 0",
}


def verbs() -> dict[str, Callable]:
    """Return the functions of `commands` that are verbs, by the name that people type."""
    return {function.__name__.replace("_", "-"): function for function in commands.VERBS}


def variables(function: Callable) -> dict[str, inspect.Parameter]:
    """Return the parameters of a verb by the names of their variables: `from_` is `FROM`."""
    parameters = inspect.signature(function).parameters
    return {name.rstrip("_").upper(): parameter for name, parameter in parameters.items()}


def usage(verb: str) -> str:
    """Return how a verb is called: `make evaluate AGENT= [GAME=] [SEED=0] [EPISODES=30]`."""
    words = []
    for name, parameter in variables(verbs()[verb]).items():
        default = parameter.default
        if default is inspect.Parameter.empty:
            words.append(f"{name}=")
        else:
            shown = "" if default is None or default is False or default == () else default
            words.append(f"[{name}={shown}]")
    return " ".join(["make", verb, *words])


def given(words: Sequence[str], known: dict[str, inspect.Parameter], verb: str) -> dict[str, str]:
    """Collect the variables of a verb from the environment, and from the words after the verb.

    Raises:
        ValueError: for a word that is not `NAME=value`, or a name that the verb does not have,
            typed as a word or to make.
    """
    typed = dict(word.split("=", 1) for word in words if "=" in word)
    if odd := [word for word in words if "=" not in word]:
        raise ValueError(f"expected NAME=value, received {odd[0]!r}: {usage(verb)}")
    asked = set(typed)
    if os.environ.get("MAKELEVEL"):
        asked |= set(re.findall(r"(?<!\\)\s(\w+):?=", f" {os.environ.get('MAKEFLAGS', '')}"))
    for name in sorted(asked - OF_MAKE - set(known)):
        near = get_close_matches(name, known, n=1)
        hint = f", did you mean {near[0]}?" if near else ""
        raise ValueError(f"make {verb} has no variable {name}{hint}: {usage(verb)}")
    found = {name: os.environ[name] for name in known if name in os.environ} | typed
    return {name: value for name, value in found.items() if value}


def convert(name: str, text: str, kind: Any) -> Any:
    """Turn the text of a variable into a value of a parameter's type.

    Raises:
        ValueError: names the variable, its value, and what was expected.
    """
    kinds = [each for each in typing.get_args(kind) if each is not NoneType]
    if typing.get_origin(kind) is typing.Literal:
        if text in kinds:
            return text
        raise ValueError(f"{name}={text}: expected {' or '.join(kinds)}")
    if typing.get_origin(kind) is tuple:
        return tuple(text.split())
    kind = kinds[0] if kinds else kind
    try:
        return WORDS[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise ValueError(f"{name}={text}: expected {EXPECTED[kind]}") from None


def parse(verb: str, words: Sequence[str]) -> dict[str, Any]:
    """Return the arguments of a verb's function.

    Raises:
        ValueError: for an unknown or missing variable, or a value of another type.
    """
    known = variables(verbs()[verb])
    texts = given(words, known, verb)
    for name, parameter in known.items():
        if parameter.default is inspect.Parameter.empty and name not in texts:
            raise ValueError(f"{name}= is missing: {usage(verb)}")
    return {
        known[name].name: convert(name, text, known[name].annotation)
        for name, text in texts.items()
    }


def help_on(verb: str | None) -> str:
    """Return the help of a verb, or the list of verbs."""
    if verb:
        return f"{usage(verb)}\n\n{inspect.getdoc(verbs()[verb])}"
    first = {name: inspect.getdoc(function).splitlines()[0] for name, function in verbs().items()}
    lines = [f"  {name:10} {line}" for name, line in first.items()]
    return "\n".join(["python -m compendium VERB NAME=value ...", *lines])


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; return its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    return exit_status(lambda: _run(*(words or ["--help"])))


def _run(verb: str, *words: str) -> int | None:
    if {verb, *words} & {"-h", "--help"}:
        print(help_on(verb if verb in verbs() else None))
        return 0
    if verb not in verbs():
        known = ", ".join(verbs())
        raise ValueError(f"there is no verb {verb!r}; expected one of {known}")
    return verbs()[verb](**parse(verb, words))


def exit_status(action: Callable[[], int | None]) -> int:
    """Do something; return its exit status, or 2 after one line that says what is wrong.

    Only Python code that a message proposes, indented by four spaces, keeps lines of its own.
    """
    try:
        return action() or 0
    except (ValueError, OSError) as error:
        said = re.sub(r"\s*\n(?! {4})\s*", " ", str(error).strip())
        print(f"atarilens: error: {said}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("atarilens: interrupted", file=sys.stderr)
        return 130
