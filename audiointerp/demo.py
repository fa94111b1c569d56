"""The whole chain on the embedded default: synthesise, train the classifier, train PIQ, explain mixtures, one page."""

from __future__ import annotations

import sysconfig
from pathlib import Path

from audiointerp.datasets import make_synthetic
from audiointerp.results import page as report
from audiointerp.results.folder import prepare_output
from audiointerp.runs.experiment import Experiment

__all__ = ["recipe_folder", "run_demo"]


def run_demo(output: Path, force: bool = False) -> Path:
    """Runs recipes/esc50/demo_classifier.yaml and demo_piq.yaml on synthetic data; returns the page.

    A folder that an earlier, interrupted demo left is gone on with; any other that holds something is refused.
    """
    data = output / "data"
    going_on = (data / "meta" / "synthetic.json").is_file()
    prepare_output(output, force or going_on)
    print(f"1/3  synthesising ten classes of sound events into {data}")
    make_synthetic(data, clips_per_class=40)
    results = output / "results"
    common = {"data_folder": str(data), "output_folder": str(results)}
    print("2/3  training the classifier")
    classifier = Experiment(recipe_folder() / "demo_classifier.yaml", common)
    classifier.run()
    print("3/3  training PIQ to explain it, then explaining test clips and mixtures")
    explainer = Experiment(recipe_folder() / "demo_piq.yaml", {**common, "classifier": str(classifier.folder)})
    explainer.run()
    return report.write_report([explainer.folder])


def recipe_folder() -> Path:
    """The ESC-50 recipes: of the checkout, or as installed with the package."""
    installed = Path(sysconfig.get_path("data")) / "share" / "audiointerp"
    for folder in (each / "recipes" / "esc50" for each in (Path(__file__).parents[1], installed)):
        if (folder / "base.yaml").is_file():
            return folder
    raise ValueError("the recipes are not installed; run from a checkout of the project")
