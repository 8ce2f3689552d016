"""Every directory of the repository and of the user's cache has one name."""

from pathlib import Path

from atarilens import paths


def test_the_folders_of_the_repository_are_there():
    assert Path(__file__).parents[1] == paths.ROOT
    for folder in (paths.AGENTS, paths.NOTEBOOKS):
        assert folder.is_dir()
        assert folder.is_relative_to(paths.ROOT)


def test_the_cache_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("ATARILENS_CACHE", raising=False)
    assert paths.cache() == tmp_path / "atarilens"
    monkeypatch.setenv("ATARILENS_CACHE", str(tmp_path / "mine"))
    assert paths.cache() == tmp_path / "mine"
    assert paths.runs() == tmp_path / "mine" / "runs"
    assert not paths.cache().exists()
    monkeypatch.delenv("ATARILENS_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.cache() == tmp_path / ".cache" / "atarilens"
