"""Imports point down only, and files stay short: read from the source, not from what happens to be loaded."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "audiointerp"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Module or package -> what it must never import, of ours (or of others).
NEVER = {
    "audio": {"audiointerp"},
    "spectrogram": {"audiointerp"},
    "quantization": {"audiointerp"},
    "upsampling": {"audiointerp"},
    "classifiers": {"interpreters", "datasets", "metrics", "training", "evaluation", "recipe"},
    "interpreters": {"datasets", "metrics", "training", "evaluation", "recipe", "experiment", "judging", "comparison"},
    "metrics": {"interpreters", "datasets", "classifiers", "training", "evaluation", "judging", "comparison"},
    "datasets": {"interpreters", "classifiers", "metrics", "training", "evaluation", "recipe"},
    "recipe": {"interpreters", "datasets", "classifiers", "experiment", "torch"},
    "training": {"interpreters", "datasets", "classifiers", "metrics", "evaluation", "recipe"},
    "statistics": {"audiointerp", "torch", "pandas"},
    "logfrequency": {"audiointerp"},
    "rate_distortion": {"interpreters", "datasets", "classifiers", "contracts", "metrics", "training"},
    "rate_distortion_problem": {"interpreters", "datasets", "classifiers", "contracts", "metrics", "training"},
    "rate_distortion_solvers": {"interpreters", "datasets", "classifiers", "contracts", "metrics", "training"},
    "fillers": {"interpreters", "datasets", "classifiers", "metrics", "training", "evaluation"},
    "inpainting": {"interpreters", "datasets", "classifiers", "metrics", "training", "evaluation"},
    "note_problem": {"interpreters", "datasets", "training", "evaluation", "metrics"},
    "magnitude_phase": {"datasets", "training", "evaluation", "experiment"},
    "note_figures": {"interpreters", "datasets", "classifiers", "contracts", "torch"},
    "note_report": {"interpreters", "datasets", "classifiers", "contracts", "torch"},
    "nmf_updates": {"interpreters", "datasets", "classifiers", "contracts", "training"},
    "nmf": {"interpreters", "datasets", "classifiers", "contracts", "training"},
    "components": {"interpreters", "datasets", "classifiers", "metrics", "training", "evaluation"},
    "relevance": {"audiointerp"},
    "masking": {"interpreters", "datasets", "classifiers", "metrics", "training"},
    "items": {"interpreters", "datasets", "classifiers", "metrics", "evaluation"},
    "judging": {"datasets", "classifiers", "tables", "evaluation", "experiment", "recipe", "comparison"},
    "conditions": {"interpreters", "classifiers", "metrics", "evaluation", "experiment", "comparison"},
    "evaluation": {"datasets", "classifiers", "experiment", "recipe", "comparison", "conditions"},
    "comparison": {"experiment", "recipe", "training"},
    "tables": {"interpreters", "datasets", "classifiers", "contracts", "torch"},
    "comparison_tables": {"interpreters", "datasets", "classifiers", "contracts", "comparison", "torch"},
    "comparison_text": {"interpreters", "datasets", "classifiers", "contracts", "comparison", "torch"},
    "sanity_figures": {"interpreters", "datasets", "classifiers", "contracts", "sanity", "torch"},
    "sanity_report": {"interpreters", "datasets", "classifiers", "contracts", "sanity", "torch"},
    "comparison_figures": {"interpreters", "datasets", "classifiers", "contracts", "comparison", "torch"},
    "comparison_report": {"interpreters", "datasets", "classifiers", "contracts", "comparison", "torch"},
    "component_figures": {"interpreters", "datasets", "classifiers", "contracts", "torch"},
    "report": {"interpreters", "datasets", "classifiers", "contracts", "torch"},
    "runs": {"interpreters", "datasets", "classifiers", "contracts", "torch"},
    "figures": {"interpreters", "datasets", "classifiers", "contracts", "torch"},
}


def imported(path: Path) -> set[str]:
    """Names of modules that a file imports, dotted; "audiointerp.x" for `from audiointerp import x`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
    return names


@pytest.mark.parametrize("module", NEVER)
def test_imports_point_down(module):
    files = [path for path in MODULES if path.relative_to(PACKAGE).with_suffix("").parts[0] == module]
    assert files, f"{module} has moved; mend this table"
    for path in files:
        for name in imported(path):
            parts = name.split(".")
            ours = parts[1] if parts[0] == "audiointerp" and len(parts) > 1 else None
            assert parts[0] not in NEVER[module], f"{path.name} imports {name}"
            assert ours not in NEVER[module], f"{path.name} imports {name}"


def test_the_reader_of_imports_sees_them(tmp_path):
    (tmp_path / "a.py").write_text("import torch.nn\ndef f():\n    from audiointerp import datasets\n")
    assert imported(tmp_path / "a.py") == {"torch.nn", "audiointerp", "audiointerp.datasets"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) <= 300
