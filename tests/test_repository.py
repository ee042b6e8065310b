"""What the repository's pages promise is there: commands, links, lines of Python, pins, pages made from the code."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import fields
from pathlib import Path

import pytest

import gramian

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "bench" / "README.md"])
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
GROUPS = ("claims",)  # commands that have commands of their own
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def commands(page: Path, program: str) -> list[str]:
    """Lines that start with `program` in the shell blocks of a page, continued lines joined, comments cut."""
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [line.split("  #")[0].strip() for line in lines if line.startswith(program + " ")]


def test_the_readme_shows_what_this_file_looks_for():
    readme = ROOT / "README.md"
    assert len(blocks(readme, "python")) == 1
    assert {"make demo", "make test"} <= set(commands(readme, "make"))
    assert any(line.startswith("gramian certify") for line in commands(readme, "gramian"))


def test_the_python_of_the_readme_runs(tmp_path):
    (code,) = blocks(ROOT / "README.md", "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_page_on_adding_an_op_runs(tmp_path):
    first, *further = blocks(ROOT / "docs" / "adding-an-op.md", "python")
    assert len(first[first.index("@reads") :].splitlines()) <= 35
    assert len(further) == 2  # finite networks judge it; the native engine has it on images
    done = subprocess.run(
        [sys.executable, "-c", "".join([first, *further])], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_page_on_your_own_training_loop_runs(tmp_path):
    before, during = blocks(ROOT / "docs" / "your-loop.md", "python")
    done = subprocess.run([sys.executable, "-c", before + during], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Largest stable learning rate" in done.stdout
    assert "After 300 steps" in done.stdout
    assert (tmp_path / "report" / "report.html").exists()


def test_the_page_on_training_runs(tmp_path):
    (code,) = blocks(ROOT / "docs" / "training.md", "python")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "a small MLP" in done.stdout
    assert "momentum: 60 steps" in done.stdout
    (run,) = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))["runs"]
    assert run["loss"]["optimizer"] == "momentum"


def test_the_page_on_training_names_every_setting():
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, re.M) == [field.name for field in fields(gramian.Settings)]


def test_the_page_on_spectra_runs(tmp_path):
    code = "".join(blocks(ROOT / "docs" / "spectra.md", "python"))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = dict(line.rsplit(": ", 1) for line in done.stdout.splitlines() if ": " in line)
    ours, whole = map(float, said["the same largest eigenvalue"].split())
    assert ours == pytest.approx(whole, rel=1e-9)


def test_the_page_on_proofs_before_training_runs(tmp_path):
    (code,) = blocks(ROOT / "docs" / "proofs" / "before.md", "python")
    code = code.replace(", max_seconds=60", ", most_steps=60")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "converges to weights with training loss exactly 0" in done.stdout
    assert (tmp_path / "width.svg").exists()


@pytest.mark.parametrize("page", ["generalization.md", "proofs/other-theorems.md"])
def test_the_pages_on_bounds_run(page, tmp_path):
    (code,) = blocks(ROOT / "docs" / page, "python")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "on new samples" in done.stdout or "error at width inf" in done.stdout


def test_the_page_on_spectra_has_the_numbers_of_the_benchmark():
    page = (ROOT / "docs" / "spectra.md").read_text(encoding="utf-8")
    lines = (ROOT / "bench" / "results" / "spectrum_gpt2.jsonl").read_text(encoding="utf-8").splitlines()
    product, spectrum = map(json.loads, lines[-2:])
    for row in (product, spectrum):
        assert f"{row['peak_mib'] / 1024:.1f} GiB" in page
    assert f"| {product['seconds']:.1f} s |" in page
    assert f"| {spectrum['seconds']:.0f} s |" in page
    assert f"{spectrum['parameters']:,}" in page
    assert f"{spectrum['rows']:,}" in page


@every_page
def test_make_has_the_targets_that_pages_name(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    named = {word for line in commands(page, "make") for word in line.split()[1:] if "=" not in word}
    named |= set(re.findall(r"`make ([a-z-]+)`", page.read_text(encoding="utf-8")))
    assert named <= targets


@every_page
def test_gramian_has_the_commands_and_options_that_pages_name(page):
    for line in commands(page, "gramian"):
        command, *rest = line.split()[1:]
        if command in GROUPS:
            command = f"{command} {rest[0]}"
        said = help_of(command)
        for option in (word for word in rest if word.startswith("--")):
            assert re.search(rf"{option}(?![\w-])", said), f"{page.name}: `gramian {command}` has no {option}"


def help_of(command: str) -> str:
    wide = os.environ | {"COLUMNS": "240", "NO_COLOR": "1", "TERM": "dumb"}
    program = [sys.executable, "-m", "gramian", *command.split(), "--help"]
    done = subprocess.run(program, capture_output=True, text=True, env=wide)
    assert done.returncode == 0, done.stderr
    return done.stdout


@every_page
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    links = [target for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text) if "://" not in target]
    missing = [target for target in links if not (page.parent / target).exists()]
    assert not missing


def test_the_page_of_what_has_a_limit_is_up_to_date():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert generate.PAGE.read_text(encoding="utf-8") == generate.page(), "the ops have changed: run `make docs`"


def test_the_theory_page_names_every_theorem():
    text = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")
    theorems = [p.stem for p in (ROOT / "src/gramian/certify/theorems").glob("*.py") if p.stem[-1] != "_"]
    assert len(theorems) >= 3
    missing = [name for name in theorems if f"theorems/{name}.py" not in text]
    assert not missing, f"docs/theory.md: a row with `theorems/NAME.py` for each of {missing}"


def test_every_dependency_is_pinned_and_nothing_but_pins_is_in_the_lock():
    lines = (ROOT / "requirements-dev.lock").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert not [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", pin)]
    assert "torch==2.13.0" in pins
    pinned = {re.sub("[-_.]+", "-", pin.split("==")[0]).lower() for pin in pins}
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]
    names = {re.sub("[-_.]+", "-", re.match(r"[\w.-]+", want)[0]).lower() for want in wanted}
    assert names <= pinned


def test_ci_runs_make_test():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text(encoding="utf-8").splitlines()


def test_make_bench_runs_what_the_page_of_benchmarks_lists():
    named = re.search(r"^BENCH \?= (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)[1].split()
    page = (ROOT / "bench" / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)\.py` \|", page, re.M)
    assert listed == named, "the table of bench/README.md and BENCH of the Makefile: one list, in one order"
    parts = {
        "compare",
        "compare_empirical",
        "limit_cuda",
        "judge",
        "recursions",
        "rival",
        "rival_agreement",
        "rival_empirical",
    }
    parts |= {"rival_empirical", "timing", "paired_networks", "paired_layers", "paired_architectures"}
    files = {p.stem for p in (ROOT / "bench").glob("*.py")}
    assert files - parts == set(named), "a benchmark is in both lists; what benchmarks share is in `parts` of this test"


def test_no_benchmark_has_the_name_of_what_a_package_imports():
    """A script's folder comes first on its path: torch once imported bench/cuda.py in place of the package `cuda`."""
    code = (
        "import sys; sys.path.insert(0, 'bench'); import torch, numpy, gramian.sklearn; print(*map(str, sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not {path.stem for path in (ROOT / "bench").glob("*.py")} & set(done.stdout.split())


@pytest.mark.parametrize("file", sorted((ROOT / "bench" / "results").glob("*.jsonl")), ids=lambda file: file.stem)
def test_kept_rows_say_where_they_come_from(file):
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        assert row["bench"] == file.stem
        assert (ROOT / "bench" / f"{file.stem}.py").exists()
        assert row.get("seconds", 1) > 0
        assert all(row[key] for key in ("device", "threads", "python", "dtype", "commit", "date"))
        assert not row["commit"].endswith("-dirty")


@pytest.mark.slow  # it compiles the native engine
def test_the_wheel_holds_what_the_package_reads(tmp_path):
    """The report's template, style and script, the marker of types, device code, and the native engine."""
    source = tmp_path / "source"
    left = shutil.ignore_patterns("*.egg-info", "__pycache__", "_native.*.so", "_native.*.pyd")
    for folder in ("src", "native"):
        shutil.copytree(ROOT / folder, source / folder, ignore=left)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    done = subprocess.run([*pip, str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    data = [
        p
        for p in (ROOT / "src/gramian").rglob("*")
        if p.suffix in (".html", ".css", ".js", ".typed", ".h", ".json", ".jsonl", ".toml")
    ]
    assert len(data) >= 10
    assert {p.relative_to(ROOT / "src").as_posix() for p in data} <= packed
    assert any(name.endswith("licenses/LICENSE") for name in packed)
    if shutil.which("c++"):
        assert any(re.fullmatch(r"gramian/_native\..*(so|pyd)", name) for name in packed)


def test_a_source_install_without_a_compiler_has_no_native_engine(tmp_path):
    cmake = shutil.which("cmake", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    configure = [cmake, "-S", str(ROOT / "native"), "-B", str(tmp_path)]
    done = subprocess.run(configure, capture_output=True, text=True, env=os.environ | {"CXX": "/none/c++"})
    assert done.returncode == 0, done.stderr
    assert "No C++ compiler: gramian is installed without its native engine" in done.stderr


def test_the_lists_of_contributing_are_where_it_says():
    table = (ROOT / "CONTRIBUTING.md").read_text("utf-8").split("## The lists")[1].split("## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10
    for row in rows:
        words = re.findall(r"`([^`]+)`", row)
        paths = [w for w in words if re.fullmatch(r"[\w/]+\.(py|md)|Makefile", w)] + ["Makefile"]
        places = [ROOT, ROOT / "src/gramian", ROOT / "tests/certify"]
        found = {w: next((place / w for place in places if (place / w).exists()), None) for w in paths}
        assert None not in found.values(), f"{row}: no {[w for w in paths if found[w] is None]}"
        text = "".join(path.read_text("utf-8") for path in found.values())
        absent = [w for w in words if re.fullmatch("[A-Z_]{4,}", w) and not re.search(rf"\b{w}\b", text)]
        assert not absent, f"{row}: no {absent} there"
