"""The games, one module and one record each; a new game is one module and one line of GAMES.

A game without a record can be played and mapped, if its screen is one of 210 lines. Only what needs
the places of objects, or events, needs a record.
"""

import re
from difflib import get_close_matches

from ale_py import roms

from atarilens.games.catalogue.breakout import BREAKOUT
from atarilens.games.catalogue.enduro import ENDURO
from atarilens.games.catalogue.freeway import FREEWAY
from atarilens.games.catalogue.frostbite import FROSTBITE
from atarilens.games.catalogue.mspacman import MS_PACMAN
from atarilens.games.catalogue.pong import PONG
from atarilens.games.catalogue.seaquest import SEAQUEST
from atarilens.games.catalogue.spaceinvaders import SPACE_INVADERS
from atarilens.games.record import Game

RECORDS = (PONG, BREAKOUT, SPACE_INVADERS, FREEWAY, SEAQUEST, MS_PACMAN, FROSTBITE, ENDURO)
GAMES = {record.name: record for record in RECORDS}

# The screen of these has 214 to 250 lines, so a screen [210, 160] would not show it whole.
TALLER = (
    *("adventure", "airraid", "carnival", "journeyescape", "keystonekapers", "kingkong", "klax"),
    *("lasergates", "mrdo", "pacman", "pooyan", "sirlancelot", "spacewar"),
)
TWO_PLAYERS = ("combat", "joust", "mazecraze", "warlords")  # the emulator has no mode for one
GYMNASIUM = re.compile(r"^ALE/|(-ram)?(NoFrameskip|Deterministic)?-v\d+$")  # around a name


def game(name: str) -> Game:
    """Return the record of a game.

    Args:
        name: in any usual spelling: `pong`, `Pong`, `ALE/Pong-v5`, `PongNoFrameskip-v4`,
            `space_invaders`, `Space Invaders`.

    Returns:
        Its record in GAMES; for another game of 210 screen lines a record without objects.

    Raises:
        ValueError: if the emulator has no such game, or this library cannot show it.
    """
    key = re.sub(r"[^a-z0-9]", "", GYMNASIUM.sub("", str(name)).lower())
    if key in GAMES:
        return GAMES[key]
    found = {rom.replace("_", ""): rom for rom in roms.get_all_rom_ids()}
    if key in TALLER:
        raise ValueError(f"game {name!r} has more than 210 screen lines, which is not supported")
    if key in TWO_PLAYERS:
        raise ValueError(f"game {name!r} is for two players only, which is not supported")
    if key not in found:
        near = " or ".join(get_close_matches(key, found, n=2))
        raise ValueError(
            f"unknown game {name!r}{f', did you mean {near}?' if near else '.'} Known are "
            f"{', '.join(sorted(GAMES))}, and the other games of ale-py with 210 screen lines"
        )
    return Game(key, found[key].replace("_", " ").title(), found[key])
