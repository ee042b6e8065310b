"""The two files: the same facts, whole or not there."""

import json
import math
import os
import re
from pathlib import Path

import pytest

import gramian.report
from gramian.errors import BadArgument
from gramian.report import write


def test_writes_two_files_and_nothing_else(facts, tmp_path):
    html, as_json = write(facts, tmp_path / "new" / "folder")
    assert sorted(path.name for path in html.parent.iterdir()) == ["plotly.min.js", "report.html", "report.json"]
    assert json.loads(as_json.read_text(encoding="utf-8")) == facts
    assert html.read_text(encoding="utf-8").lstrip().startswith("<!doctype html>")


def test_json_has_null_where_it_cannot_write_the_number(tmp_path):
    facts = {"runs": [{"loss": {"steps": [0, 1], "measured": [math.inf, math.nan]}}]}
    _, as_json = write(facts, tmp_path)
    assert json.loads(as_json.read_text())["runs"][0]["loss"]["measured"] == [None, None]


def test_writing_again_replaces(facts, tmp_path):
    write({"title": "old", "runs": []}, tmp_path)
    html, _ = write(facts, str(tmp_path))
    assert "<title>digits: 3 networks" in html.read_text(encoding="utf-8")


def test_a_folder_that_cannot_be_written_gets_the_four_parts(facts, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadArgument, match=r"(?s)report cannot be written.*where: .*file.*why: .*fix: .*--out") as info:
        write(facts, tmp_path / "file" / "folder")
    assert "Traceback" not in str(info.value)


def test_a_full_disk_leaves_nothing_half_written(facts, tmp_path, monkeypatch):
    write({"title": "old", "runs": []}, tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(BadArgument, match="No space left on device"):
        write(facts, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plotly.min.js", "report.html", "report.json"]
    assert "<title>old" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_report_imports_no_torch_and_no_package_above_it():
    folder = Path(gramian.report.__file__).parent
    text = "\n".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    imported = re.findall(r"^\s*(?:from|import) ([\w.]+)", text, re.MULTILINE)
    ours = {name for name in imported if name.startswith("gramian") and not name.startswith("gramian.report")}
    assert ours == {"gramian.errors", "gramian.files"}
    assert "torch" not in imported
