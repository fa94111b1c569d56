"""The shape of the package, read from its source: who imports whom, how long a function is, what is documented."""

import ast
import importlib
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "audiointerp"
MODULES = sorted(PACKAGE.rglob("*.py"))

# An entry of the package imports entries of lower floors only, and modules of its own.
FLOORS = [
    ["__main__"],
    ["commands"],
    ["runs", "explore"],
    ["evaluation", "bundles"],
    ["interpreters"],
    ["classifiers", "datasets", "training", "listening"],
    ["contracts"],
    ["results"],
    ["sound", "metrics", "recipe", "processes"],
]
FLOOR = {entry: number for number, entries in enumerate(FLOORS) for entry in entries}


def name_of(path):
    """Dotted name of a module of the package, without "audiointerp."."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path) for path in MODULES}


def imported(source):
    """Modules of the package that a source imports, also within functions and under TYPE_CHECKING."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        named = []
        if isinstance(node, ast.Import):
            named = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            named = [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
        ours = {each.removeprefix("audiointerp").removeprefix(".") for each in named if each.startswith("audiointerp")}
        found |= ours & NAMES - {""}
    return found


def test_the_reader_of_imports_sees_them():
    source = "import audiointerp.sound.nmf\ndef f():\n    from audiointerp.results import page, nothing\n"
    assert imported(source) == {"sound.nmf", "results", "results.page"}
    assert imported("if TYPE_CHECKING:\n    from audiointerp.contracts import Batch\n") == {"contracts"}


def test_every_entry_has_its_floor():
    entries = {name.split(".")[0] for name in NAMES - {""}}
    assert entries == set(FLOOR) and len(entries - {"__main__"}) == 16


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down(path):
    own = name_of(path).split(".")[0]
    for name in imported(path.read_text()) if own else ():
        entry = name.split(".")[0]
        assert entry == own or FLOOR[own] < FLOOR[entry], f"{name_of(path)} imports {name}"


def test_modules_import_in_no_circle():
    """Also within an entry, where no floor forbids it; a package stands for its __init__ alone."""
    arrows = {name_of(path): imported(path.read_text()) - {name_of(path)} for path in MODULES}
    packages = {name_of(path) for path in MODULES if path.name == "__init__.py"}
    arrows = {
        name: {each for each in to if each not in packages} for name, to in arrows.items() if name not in packages
    }
    done, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name in done:
            return
        path.append(name)
        for each in sorted(arrows[name]):
            visit(each)
        done.add(path.pop())

    for name in sorted(arrows):
        visit(name)


@pytest.mark.parametrize("package", ["results", "listening", "metrics.names", "recipe"])
def test_files_are_read_without_torch(package):
    """Every module of these packages is imported; in a process of its own, where nothing else was."""
    modules = [f"audiointerp.{name}" for name in sorted(NAMES) if f"{name}.".startswith(f"{package}.")]
    script = (
        "import importlib, sys; [importlib.import_module(each) for each in sys.argv[1:]]; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, *modules], capture_output=True, text=True, check=True)
    assert modules and done.stdout.strip() == "False"


def functions(path):
    return [
        each
        for each in ast.walk(ast.parse(path.read_text()))
        if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_stay_under_60_lines(path):
    for node in functions(path):
        assert node.end_lineno - node.lineno + 1 < 60, f"{path.name}:{node.lineno} {node.name}"


def public(body, within=""):
    """(dotted name, node) of the public classes, functions and methods of a module's body."""
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
            yield f"{within}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{node.name}.")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_public_names_are_documented(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), path
    for name, node in public(tree.body):
        if any(isinstance(each, ast.Name) and each.id == "overload" for each in getattr(node, "decorator_list", [])):
            continue
        assert ast.get_docstring(node), f"{path.name}:{node.lineno} {name}"


def test_one_name_is_one_thing():
    """No two public classes or types of the package share a name."""
    homes = defaultdict(list)
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            name = node.name if isinstance(node, ast.ClassDef) else ""
            if isinstance(node, (ast.Assign, ast.AnnAssign)):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                name = target.id if isinstance(target, ast.Name) and not target.id.isupper() else ""
            if name[:1].isupper():
                homes[name].append(name_of(path))
    assert homes["Filler"] == ["interpreters.rde.fillers"]
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}


SCRIPTS = [each for each in sorted(PACKAGE.parent.glob("[bd]*s/*.py")) if "from audiointerp" in each.read_text()]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_import_names_that_exist(script):
    """Benchmarks and the maker of screenshots are run by hand, so that no other test meets their imports."""
    found = 0
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("audiointerp"):
            module = importlib.import_module(node.module)
            for each in node.names:
                assert hasattr(module, each.name) or f"{node.module}.{each.name}".removeprefix("audiointerp.") in NAMES
                found += 1
    assert found
