"""Fixtures of the runs that explain a classifier: the one of `tiny` says the same of every clip."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from tiny_runs import EVALUATED, L2I_OPTIONS, run, with_options


@dataclass(frozen=True)
class Trained:
    """Runs on the tiny data.

    Attributes:
        classifier: a classifier that tells the clips of its training folds apart, more or less.
        dictionary: eight components learnt from the same folds.
        l2i: trained for so long that its components speak for classes; two clips and two mixtures are explained.
        options: what names the first two on the command line.
    """

    classifier: Path
    dictionary: Path
    l2i: Path

    @property
    def options(self) -> tuple[str, ...]:
        return ("--classifier", str(self.classifier), "--dictionary", str(self.dictionary))


@pytest.fixture(scope="session")
def trained(tiny, tmp_path_factory) -> Trained:
    """See `Trained`; tests only read the three runs."""
    root = tmp_path_factory.mktemp("trained")
    quick = ("--channels", 8, "--epochs", 12, "--lr", 0.01, "--batch_size", 10, "--augment", "null")
    run(with_options(tiny.recipe("classifier", root), *quick))
    run(with_options(tiny.recipe("nmf", root), "--nmf.n_components", 8, "--epochs", 10))
    made = Trained(*(root / name / "1234" for name in ("classifier", "nmf", "l2i")))
    run(with_options(tiny.recipe("l2i", root), *made.options, *L2I_OPTIONS, *EVALUATED))
    return made
