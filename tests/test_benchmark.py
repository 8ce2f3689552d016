"""The benchmark measures this machine and says which it is."""

import json
import re

from atarilens import benchmark


def test_the_file_is_named_after_the_machine_and_holds_its_numbers(monkeypatch, tmp_path):
    monkeypatch.setattr(benchmark, "BENCHMARKS", tmp_path)
    monkeypatch.setattr(benchmark, "REPEATS", 1)
    monkeypatch.setattr(benchmark, "FRAMES", 1)
    path = benchmark.write()
    assert re.fullmatch(r"[a-z0-9-]+-\d+-cores\.json", path.name)
    numbers = json.loads(path.read_text())
    assert f"{numbers['machine']}.json" == path.name
    fast, slow = (numbers[f"perturbation_stride_{n}_ms_per_frame"] for n in (5, 2))
    assert 0 < numbers["jacobian_ms_per_frame"] < fast < slow  # 2 passes, 257 and 1601 of them
    assert numbers["emulator_steps_per_second"] > 0


def test_the_fastest_run_counts_and_the_first_does_not():
    import time

    waits = iter([0.0, 0.03, 0.01, 0.02, 0.03, 0.03])
    seconds = benchmark.fastest(lambda: time.sleep(next(waits)))
    assert 0.01 <= seconds < 0.02
