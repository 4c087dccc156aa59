"""benchmarks/accelerator.py: its small form runs on a CPU, and a part that fails or takes too long is named."""

import argparse
import json
import os
import subprocess
import sys

import psutil
import pytest

from benchmarks import accelerator


@pytest.mark.slow
def test_its_small_form_runs_here(tmp_path):
    command = [sys.executable, "-m", "benchmarks.accelerator", f"--out={tmp_path}", "--tiny", "--minutes=20"]
    flags = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=1"  # the last one holds
    environment = os.environ | {"XLA_FLAGS": flags}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=environment)
    result = json.loads((tmp_path / "accelerator.json").read_text("utf-8"))
    assert done.returncode == 0, result
    found = {part: told["found"] for part, told in result["parts"].items()}
    assert [one["kind"] for one in found["step"]["results"]] == ["train", "predict"]
    assert found["memory"]["planned_bytes"] < found["memory"]["peak_bytes"]
    assert found["schedule"]["steps"] == 150 * 1239 // 16
    differences = [one["largest_difference_px"] for one in found["export"]["files"].values()]
    assert len(differences) == 2 and max(differences) < 0.01
    page = (tmp_path / "accelerator.md").read_text("utf-8")
    assert all(f"## {part}" in page for part in accelerator.PARTS) and "mean nothing" in page and page in done.stdout


@pytest.mark.slow
def test_a_part_that_takes_too_long_is_ended_and_named(tmp_path):
    told = accelerator.run("memory", argparse.Namespace(out=tmp_path, tiny=True), 1.0)
    assert told["left_out"].startswith("the time was over after 1 s") and told["found"] == {}
    assert not [one for one in psutil.Process().children() if "benchmarks.accelerator" in one.cmdline()]


def test_a_part_that_fails_is_named_with_its_last_words(tmp_path):
    told = accelerator.run("nothing", argparse.Namespace(out=tmp_path, tiny=True), 60.0)
    assert "it failed" in told["left_out"] and "invalid choice" in told["left_out"]


def test_the_page_says_what_is_missing():
    parts = {"memory": {"seconds": 3.0, "left_out": "the time was over after 3 s", "found": {}}}
    result = {"machine": "a machine", "date": "2026-01-01", "jax": "0", "tiny": False, "parts": parts}
    page = accelerator.page(result)
    assert "Not all of it: the time was over after 3 s (memory.log)" in page and "mean nothing" not in page
