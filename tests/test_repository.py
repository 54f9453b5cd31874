"""What holds for the repository as a whole: sizes, the README, the docs, the weight of the import."""

import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "shardwise"
README = (ROOT / "README.md").read_text()
SCRIPTS = Path(sys.executable).parent


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def folders() -> set[Path]:
    """Folders of the package that hold Python files."""
    return {path.parent for path in SOURCE.rglob("*.py")} - {SOURCE}


def rooms() -> list[str]:
    return sorted(folder.name for folder in folders() if folder.parent == SOURCE)


# -- sizes -----------------------------------------------------------------------------------------------------------

BUDGETS = {"lines": 400, "function": 40, "parameters": 5}


def sizes(path: Path) -> Iterator[tuple[str, str, int]]:
    """`(budget, place, size)` of the file and of each function in it."""
    name, text = path.relative_to(ROOT).as_posix(), path.read_text()
    yield "lines", name, len(text.splitlines())
    for place, function, is_method in functions(ast.parse(text)):
        yield "function", f"{name}::{place}", (function.end_lineno or 0) - function.lineno + 1
        yield "parameters", f"{name}::{place}", positional(function, is_method)


def functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + child.name, child, isinstance(node, ast.ClassDef)
        inner = f"{prefix}{child.name}." if isinstance(child, ast.FunctionDef | ast.ClassDef) else prefix
        yield from functions(child, inner)


def positional(function: ast.FunctionDef | ast.AsyncFunctionDef, is_method: bool) -> int:
    static = any(isinstance(mark, ast.Name) and mark.id == "staticmethod" for mark in function.decorator_list)
    return len(function.args.posonlyargs + function.args.args) - (is_method and not static)


def exceptions() -> dict[tuple[str, str], int]:
    lines = (ROOT / "tests" / "size_exceptions.txt").read_text().splitlines()
    entries = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    return {(budget, place): int(size) for budget, place, size in entries}


def test_sizes_are_within_budget_and_exceptions_shrink() -> None:
    over = {
        (budget, place): size
        for path in tracked("*.py")
        for budget, place, size in sizes(path)
        if size > BUDGETS[budget]
    }
    allowed = exceptions()
    wrong = [
        f"{budget} {place}: {over.get((budget, place), 'within budget')}, listed: {allowed.get((budget, place), 'no')}"
        for budget, place in sorted(over.keys() | allowed.keys())
        if over.get((budget, place)) != allowed.get((budget, place))
    ]
    assert not wrong, "make it smaller, or shrink tests/size_exceptions.txt:\n" + "\n".join(wrong)


def test_the_measure_of_functions() -> None:
    tree = ast.parse(
        "class A:\n  @staticmethod\n  def s(a, b): ...\n  def m(self, a, /, b, *, c):\n    def inner(x): ...\n"
    )
    found = [(place, positional(function, is_method)) for place, function, is_method in functions(tree)]
    assert found == [("A.s", 2), ("A.m", 2), ("A.m.inner", 1)]


# -- README ----------------------------------------------------------------------------------------------------------

TREE_LINE = re.compile(r"(?P<indent> *)(?P<name>[\w.\-/]+)\s+(?P<text>\S.*)")


def tree_paths() -> list[Path]:
    """What the block under "## The tree" names; a deeper line lies in the folder above it."""
    section = README.partition("\n## The tree\n")[2].partition("\n## ")[0]
    lines = section.partition("```")[2].partition("\n")[2].partition("```")[0].splitlines()
    paths: list[Path] = []
    above: list[tuple[int, Path]] = [(-1, ROOT)]
    for line in filter(str.strip, lines):
        match = TREE_LINE.fullmatch(line)
        assert match, f"a name and a description are expected: {line!r}"
        indent = len(match["indent"])
        while above[-1][0] >= indent:
            above.pop()
        above.append((indent, above[-1][1] / match["name"]))
        assert match["name"].endswith("/") == above[-1][1].is_dir(), (
            f"a folder ends in a slash, a file does not: {line!r}"
        )
        paths.append(above[-1][1])
    return paths


def test_the_tree_in_the_readme_is_the_tree_on_disk() -> None:
    named = tree_paths()
    assert [path for path in named if not path.exists()] == []
    modules = [path for path in SOURCE.glob("*.py") if not path.name.startswith("_")]
    missing = {*folders(), *modules} - set(named)
    assert not missing, "not in the README's tree: " + ", ".join(sorted(path.name for path in missing))


BLOCK = re.compile(r"(?P<before>[^\n]*)\n+```(?P<language>bash|python)\n(?P<body>.*?)```", re.DOTALL)
NOT_RUN = re.compile(r"<!-- not run: \S.* -->")
MAKE = re.compile(r"^ *make (?P<words>[^#\n]*)", re.MULTILINE)


def examples() -> list[tuple[int, str, str]]:
    """`(line number, language, text)` of each block that is to be run; people run `make`, which would run this."""
    text = "\n" + README
    return [
        (text[: match.start("body")].count("\n"), match["language"], MAKE.sub("", match["body"]))
        for match in BLOCK.finditer(text)
        if not NOT_RUN.fullmatch(match["before"].strip())
    ]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_the_make_targets_that_are_named_exist(name: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {word for words in MAKE.findall((ROOT / name).read_text()) for word in words.split() if "=" not in word}
    assert named
    assert named <= targets


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the README's examples run, one after the other; `examples` is there as in the repository."""
    place = tmp_path_factory.mktemp("readme")
    (place / "examples").symlink_to(ROOT / "examples")
    return place


@pytest.mark.parametrize(("line", "language", "body"), [pytest.param(*e, id=f"line-{e[0]}") for e in examples()])
def test_the_examples_of_the_readme_run(line: int, language: str, body: str, folder: Path) -> None:
    environment = {**os.environ, "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"}
    runner = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}[language]
    done = subprocess.run(
        [*runner, body],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"README.md, line {line}:\n{body}\n{done.stdout}\n{done.stderr}"


# -- docs and texts --------------------------------------------------------------------------------------------------

PLACES = re.compile(
    r"/(?:work|root)/|/tmp/[w]\b|/opt/(?:pypi|wheels)|(?:pypi|npmjs|crates|debian)\.(?:org|io)|python[h]osted"
)


def test_no_text_names_a_machine_or_a_registry() -> None:
    found = []
    for path in tracked():
        content = path.read_bytes()
        if b"\0" not in content:
            found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in PLACES.finditer(content.decode())]
    assert found == []


def test_the_map_names_every_room() -> None:
    text = (ROOT / "docs" / "map.md").read_text()
    assert [room for room in rooms() if f"{room}/" not in text] == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/map.md"])
def test_paths_in_the_docs_exist(name: str) -> None:
    text = (ROOT / name).read_text()
    paths = re.findall(r"`((?:src|tests|docs|benchmarks|examples|\.ci)/[\w./-]*)`", text)
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    places = [*(ROOT / path for path in paths), *((ROOT / name).parent / link for link in links)]
    assert [place for place in places if not place.exists()] == []


def test_every_module_says_what_it_is() -> None:
    silent = [path for path in SOURCE.rglob("*.py") if not ast.get_docstring(ast.parse(path.read_text()))]
    assert [path.relative_to(SOURCE).as_posix() for path in silent] == []


def test_the_public_interface_is_documented() -> None:
    package = importlib.import_module("shardwise")
    objects = {name: getattr(package, name) for name in package.__all__}
    for name, value in list(objects.items()):
        if inspect.isclass(value):
            objects |= {f"{name}.{key}": member for key, member in vars(value).items() if key[0] != "_"}
    silent = [name for name, value in objects.items() if callable(value) and not inspect.getdoc(value)]
    assert silent == []


# -- the weight of the import ----------------------------------------------------------------------------------------

HEAVY = {"matplotlib", "sklearn", "lightgbm", "scipy", "pandas", "polars", "duckdb", "datasketches", "s3fs", "rich"}
MODULE_BUDGET = 120


def test_importing_the_package_is_light() -> None:
    script = "import shardwise, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert HEAVY & set(loaded) == set()
    assert len(loaded) <= MODULE_BUDGET
