"""Fetch trials of human gaze into the user's cache, with the checksums of their record."""

import os
import tempfile
from pathlib import Path

import pooch

from atarilens.games.objects import game as record_of
from atarilens.play import gaze_folder
from atarilens.play.gaze_trials import META

DOI = "doi:10.5281/zenodo.3451402"  # Atari-HEAD, version 4 of September 2019
MIRROR = "ATARILENS_GAZE_URL"  # a server that has the files, and their checksums in REGISTRY
REGISTRY = "registry.txt"  # a line per file: its name and its checksum, as "md5:..."


def fetch_gaze_data(game: str) -> Path:
    """Fetch the trials of one game, and the table of all trials, unless they are here.

    The checksums come from the record of the DOI. The dataset is published under a licence that
    its record states; nothing of it is tracked here.

    Args:
        game: in any usual spelling.

    Returns:
        The folder that `play.open_gaze_trials` reads.

    Raises:
        ValueError: if a file differs from its checksum, or the dataset has no such game.
        FileNotFoundError: if files are missing and cannot be fetched.
    """
    folder, record = gaze_folder(), record_of(game)
    wanted = [f"{record.ale}.zip", META]
    base = os.environ.get(MIRROR) or DOI
    pooch.get_logger().setLevel("WARNING")  # a progress bar says the rest
    files = pooch.create(path=folder, base_url=f"{base.rstrip('/')}/", registry={})
    try:
        _read_checksums(files, base)
        if wanted[0] not in files.registry:
            raise ValueError(f"{base} has no {wanted[0]}: nobody's gaze on {record.title} is there")
        for name in wanted:
            files.fetch(name, progressbar=name != META)
    except OSError as error:
        missing = [name for name in wanted if not (folder / name).is_file()]
        if missing:
            raise FileNotFoundError(
                f"gaze on {record.title}: {' and '.join(missing)} of {base} missing in {folder}, "
                f"and {base} cannot be reached; connect to the network, or put them there yourself"
            ) from error
        print(f"{base} cannot be reached: the checksums were not compared")
    return folder


def _read_checksums(files: pooch.Pooch, base: str) -> None:
    """Fill the registry from the record of a DOI, or from the registry of a mirror."""
    if base.startswith("doi:"):
        files.load_registry_from_doi()
        return
    with tempfile.TemporaryDirectory() as folder:
        address = f"{base.rstrip('/')}/{REGISTRY}"
        files.load_registry(pooch.retrieve(address, known_hash=None, path=folder))
