"""Methods by the names of the command line, and what they cost."""

from __future__ import annotations

import pytest
import torch
from cases import by_design, piq

from audiointerp.classifiers import VGGSound
from audiointerp.interpreters import L2I, Loudest, MaskInterpreter
from audiointerp.interpreters.catalogue import choose, describe_cost, kinds


@pytest.fixture
def classifier() -> VGGSound:
    torch.manual_seed(0)
    return VGGSound(("a", "b"), channels=4).eval()


def test_every_exported_method_has_a_name():
    assert {"piq", "l2i", "loudest", "saliency", "rise"} <= set(kinds())
    assert not any(kind is MaskInterpreter for kind in kinds().values())


def test_a_bundles_own_method_and_others(classifier):
    own = piq(classifier, codes=8)
    assert choose(own, [], "x") == {"piq": own}
    several = choose(own, ["PIQ", "loudest", "saliency"], "x")
    assert list(several) == ["piq", "loudest", "saliency"] and several["piq"] is own
    # Equal area to the method that the bundle holds.
    assert isinstance(several["loudest"], Loudest) and several["loudest"].like is own


def test_by_design_needs_no_training():
    classifier = by_design()
    assert isinstance(choose(classifier, ["l2i"], "x")["l2i"], L2I)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["grandcam"], r"'grandcam' is unknown \(did you mean 'gradcam'\?\)"),
        (["nothing"], "'nothing' is unknown; choose from"),
        (["l2i"], "l2i must be trained"),
        (["lmac"], "lmac must be trained"),
        (["lmactd"], "lmactd must be trained"),
        (["explainer"], "explainer must be trained"),
        (["rtis"], "rtis must be trained"),
        (["vibi"], "vibi must be trained"),
        (["flint"], "flint must be trained"),
    ],
)
def test_what_cannot_be_chosen(classifier, names, message):
    with pytest.raises(ValueError, match=message):
        choose(classifier, names, "x")


def test_a_classifier_without_an_explainer_has_a_default(classifier):
    methods = choose(classifier, [], "x")
    assert list(methods) == ["lime_nmf"] and methods["lime_nmf"].passes == 64
    # By name it is the same, and another one than LIME over tiles.
    named = choose(classifier, ["lime_nmf", "lime"], "x")
    assert vars(named["lime_nmf"]).get("parts") == vars(methods["lime_nmf"]).get("parts")
    assert named["lime_nmf"].passes == 64 != named["lime"].passes
    with pytest.raises(ValueError, match="did you mean 'lime_nmf'"):
        choose(classifier, ["lime_nmff"], "x")


def test_methods_over_parts_masks_and_wavelets_have_names(classifier):
    names = ["shapley", "extremalperturbation", "igosplusplus", "wam"]
    methods = choose(classifier, names, "x")
    assert list(methods) == names and all(method.passes > 1 for method in methods.values())


def test_only_a_long_wait_is_told(classifier, monkeypatch):
    methods = choose(classifier, ["saliency", "rise", "threshold"], "x")
    monkeypatch.setattr("audiointerp.interpreters.catalogue._time_a_pass", lambda classifier, from_features: 0.05)
    lines = describe_cost(methods, None)
    assert lines == ["rise: 400 classifier passes for 5 s of sound; about 20 s for each clip"]
    assert (
        describe_cost(methods, 100)[0].startswith("saliency: 3 classifier passes")
        and len(describe_cost(methods, 100)) == 2
    )
    assert describe_cost(choose(classifier, ["threshold"], "x"), 1000) == []
