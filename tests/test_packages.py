"""Imports run downwards from package to package, and a file has one subject and fewer than 400 lines."""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "gramian"

# each line may import from the lines above it; packages of one line never import each other
LAYERS = [
    ("errors", "library", "version"),
    ("files", "timing", "module_state"),
    ("checker",),
    ("data",),
    ("duals",),
    ("arch",),
    ("limit", "empirical"),
    ("network",),
    ("gram",),
    ("solve",),
    ("predict",),
    ("train",),
    ("conditions",),
    ("prove",),
    ("bounds",),
    ("certify",),
    ("monitor",),
    ("claims",),
    ("cli",),
]
LAYER = {package: number for number, layer in enumerate(LAYERS) for package in layer}
ASIDE = {"report": {"errors", "files", "report"}}  # reads plain data; who may read it is above `train`
PUBLIC = {"__init__.py", "__main__.py", "predicted.py", "sklearn.py"}  # they hand out names of every package
# `Architecture.ntk` is the one import upwards: imported in the method, so that `arch` alone still loads
UPWARDS = ("network/architecture_type.py", "limit")

MODULES = sorted(p for p in SOURCE.rglob("*.py") if p.relative_to(SOURCE).as_posix() not in PUBLIC)


def package_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[tuple[str, bool, int]]:
    """(full module name, whether inside a function, line) of every import in a file, relative ones resolved."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = ["gramian", *path.relative_to(SOURCE).parts[:-1]]
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{stem}.{alias.name}" for alias in node.names] if stem == "gramian" else [stem]
        else:
            continue
        found += [(name, id(node) in inside, node.lineno) for name in names]
    return found


def ours(path: Path) -> list[tuple[str, bool, int]]:
    """(package, whether inside a function, line) of every import from this package."""
    return [
        (name.split(".")[1] if "." in name else "gramian", inside, line)
        for name, inside, line in imports(path)
        if name.split(".")[0] == "gramian"
    ]


def test_every_package_has_its_layer():
    packages = {package_of(path) for path in MODULES}
    assert packages <= LAYER.keys() | ASIDE.keys()
    assert {"errors", "data", "arch", "limit", "report"} <= packages, "the walk found too little to mean anything"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_imports_run_downwards(path):
    here = package_of(path)
    if here in ASIDE:
        allowed = ASIDE[here]
    else:
        allowed = {here} | {other for other, layer in LAYER.items() if layer < LAYER[here]}
        allowed |= ASIDE.keys() if LAYER[here] > LAYER["train"] else set()
    wrong = [f"line {line}: {here} imports {other}" for other, _, line in ours(path) if other not in allowed]
    assert not wrong, f"{path.relative_to(ROOT)}: " + "; ".join(wrong)


def modules_imported_by(path: Path) -> set[str]:
    """Full names of the package's files that a file imports, for type checkers alone too."""
    files = {module_name(p) for p in SOURCE.rglob("*.py")}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = ["gramian", *path.relative_to(SOURCE).parts[:-1]]
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{stem}.{alias.name}"
                imported.add(full if full in files else stem)
        elif isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
    return imported & files - {module_name(path)}


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(["gramian", *(part for part in parts if part != "__init__")])


def test_no_files_import_one_another_in_a_circle():
    graph = {module_name(p): modules_imported_by(p) for p in SOURCE.rglob("*.py") if p.name != "__init__.py"}
    sorter = graphlib.TopologicalSorter(graph)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        pytest.fail("a circle of imports: " + " -> ".join(error.args[1]))
    assert len(graph) > 300, "the walk found too little to mean anything"


def test_the_walk_sees_imports_in_every_form(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "SOURCE", tmp_path)
    file = tmp_path / "arch" / "ops" / "x.py"
    file.parent.mkdir(parents=True)
    file.write_text(
        "import gramian.train.loop\nfrom gramian import cli\nfrom gramian.solve import flow\nfrom ...data import load\n"
        "from .. import law\nif True:\n    from gramian.gram.store import open\n"
        "def f():\n    from gramian.limit import kernels\n"
    )
    assert [(r, i) for r, i, _ in sorted(ours(file), key=lambda found: found[2])] == [
        ("train", False),
        ("cli", False),
        ("solve", False),
        ("data", False),
        ("arch", False),
        ("gram", False),
        ("limit", True),
    ]


def test_the_report_imports_no_torch():
    names = {name.split(".")[0] for path in (SOURCE / "report").rglob("*.py") for name, _, _ in imports(path)}
    assert "torch" not in names
    assert "plotly" in names, "the walk found too little to mean anything"


def test_a_file_has_fewer_than_400_lines():
    kinds = ("*.py", "*.cpp", "*.cu", "*.js", "*.css", "*.html")
    files = [
        p for folder in ("src", "native", "tests", "bench", "docs") for k in kinds for p in (ROOT / folder).rglob(k)
    ]
    assert len(files) > 100
    lines = {p.relative_to(ROOT).as_posix(): len(p.read_text(encoding="utf-8").splitlines()) for p in files}
    long = {name: count for name, count in lines.items() if count >= 400 and "egg-info" not in name}
    assert not long, f"one subject a file; split by subject: {long}"


def test_no_file_is_called_utils():
    vague = [
        p for p in (*SOURCE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")) if p.stem in ("utils", "util", "helpers")
    ]
    assert not vague
