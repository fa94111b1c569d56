"""One row an interpreter and one row a classifier: a row buys every test of test_promises.py.

A new interpreter adds one `Case`; its builder takes a classifier of `CLASSIFIERS` and returns it ready to interpret.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from audiointerp.classifiers import External, InstrumentClassifier, VGGSound
from audiointerp.contracts import Classifier, Interpreter
from audiointerp.interpreters import (
    FLINT,
    L2I,
    LIME,
    LMAC,
    LMACTD,
    PIQ,
    RDE,
    RISE,
    RTIS,
    VIBI,
    WAM,
    AllPass,
    BandRDE,
    CartoonX,
    Concepts,
    Empty,
    Explainer,
    ExtremalPerturbation,
    GradCAM,
    GradientSHAP,
    GuidedGradCAM,
    IdealParts,
    IGOSPlusPlus,
    IntegratedGradients,
    Loudest,
    MostFaithful,
    Occlusion,
    RandomComponents,
    RandomMask,
    RandomMoments,
    RandomTiles,
    Saliency,
    SegmentSurrogate,
    Shapley,
    SmoothGrad,
    TargetMasking,
    Threshold,
)
from audiointerp.interpreters.concepts import cells_of
from audiointerp.interpreters.l2i.by_design import DictionaryClassifier
from audiointerp.interpreters.rde.fillers import GaussianNoise
from audiointerp.interpreters.rde.solvers import Concrete, MatchingPursuit, Relaxed
from audiointerp.sound.masking import AttributionMask, EnergyMask, StemMask

LABELS = ("bell", "cat", "dog", "rain")
LAYERS_IN_TIME = ["harmonic_percussive", "onsets"]
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


class TinyConv(nn.Module):
    """Waveform -> logits, with one layer, `maps`, of (batch, channel, 32, samples / (186 * 16)), rounded up."""

    def __init__(self, classes: int, channels: int = 4):
        super().__init__()
        self.bank = nn.Conv1d(1, 64, 65, stride=186, padding=32)
        self.maps = nn.Conv2d(1, channels, (3, 17), stride=(2, 16), padding=(1, 8))
        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.head = nn.Linear(channels, classes)

    def forward(self, waveform: Tensor) -> Tensor:
        frames = self.relu(self.bank(waveform.unsqueeze(1))).unsqueeze(1)
        return self.head(self.relu(self.norm(self.maps(frames))).mean((2, 3)))


def _lively(classifier: nn.Module) -> nn.Module:
    """Running statistics as after training: an untrained network says the same of every sound."""
    for module in classifier.modules():
        if isinstance(module, NORMS):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.01, 0.1)
    return classifier.eval()


def vggsound(multilabel: bool = False) -> Classifier:
    torch.manual_seed(0)
    return _lively(VGGSound(LABELS, channels=4, multilabel=multilabel))


def external() -> Classifier:
    torch.manual_seed(0)
    return _lively(External(TinyConv(len(LABELS)), LABELS, 16000, layers=["maps"]))


def instrument() -> Classifier:
    torch.manual_seed(0)
    return _lively(InstrumentClassifier(LABELS, bands=32, channels=4))


def has_feature_maps(classifier: Classifier) -> bool:
    return not has_bands(classifier)


def has_bands(classifier: Classifier) -> bool:
    return hasattr(classifier, "log_frequency")


def piq(classifier: Classifier, **arguments) -> PIQ:
    """PIQ with codes far apart, so that another class or another vector gives another mask."""
    torch.manual_seed(1)
    made = PIQ(classifier, **{"codes": 16} | arguments)
    nn.init.normal_(made.codebook.weight, std=3)
    return made.eval()


def by_design(multilabel: bool = False) -> DictionaryClassifier:
    torch.manual_seed(0)
    made = DictionaryClassifier(LABELS, channels=4, n_components=6, width=4, multilabel=multilabel)
    made.network.set_dictionary(torch.rand(513, 6))
    _lively_network(made.network)
    return _lively(made)


def l2i(classifier: Classifier, **arguments) -> L2I:
    """L2I whose components differ from frame to frame and from class to class; some are selected, some are not."""
    torch.manual_seed(1)
    made = L2I(classifier, torch.rand(513, 6), **{"width": 4} | arguments)
    _lively_network(made.network)
    return made.eval()


def _lively_network(network: nn.Module) -> None:
    nn.init.normal_(network.psi.last.weight, std=0.3)
    nn.init.constant_(network.psi.last.bias, 0.5)
    nn.init.normal_(network.theta.linear.weight, std=0.1)


def concepts(classifier: Classifier, **arguments) -> Concepts:
    """Concepts learnt from noise and tones; all three that speak for a class are kept, by their contributions."""
    made = Concepts(classifier, **{"n_concepts": 4} | arguments)
    generator = torch.Generator().manual_seed(5)
    waveform = torch.sin(torch.arange(4800) * torch.tensor([[0.1], [0.4], [1.2]]))
    waveform = waveform + torch.randn(3, 4800, generator=generator)
    made.dictionary.fit(cells_of(made.representation.of(waveform / waveform.abs().amax(1, keepdim=True))))
    return made.eval()


def lmac(classifier: Classifier, **arguments) -> LMAC:
    """L-MAC with running statistics as after training, so that another class or another map gives another mask."""
    torch.manual_seed(1)
    made = LMAC(classifier, **{"width": 4, "fine_width": 4} | arguments)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.01, 0.1)
    return made.eval()


def lmac_td(classifier: Classifier, **arguments) -> LMACTD:
    """LMAC-TD with running statistics as after training, a basis that is not Fourier's, and a separator in use."""
    torch.manual_seed(1)
    small = {"width": 4, "fine_width": 4, "kernel": 16, "stride": 8, "channels": 18, "separator": 16, "chunk": 20}
    made = _lively(LMACTD(classifier, **small | arguments))
    with torch.no_grad():
        made.basis.directions.add_(0.1 * torch.randn(made.basis.directions.shape))
    nn.init.normal_(made.widen.weight, std=0.3)
    return made


def explainer(classifier: Classifier, **arguments) -> Explainer:
    """Explainer with running statistics as after training, so that another class has another mask."""
    torch.manual_seed(1)
    return _lively(Explainer(classifier, **{"width": 4, "fine_width": 4} | arguments))


def rtis(classifier: Classifier, **arguments) -> RTIS:
    """RTIS with running statistics as after training, and classes that gate the maps differently."""
    torch.manual_seed(1)
    made = _lively(RTIS(classifier, **{"width": 4, "fine_width": 4} | arguments))
    nn.init.normal_(made.of_class.weight, std=3)
    return made


def vibi(classifier: Classifier, **arguments) -> VIBI:
    """VIBI with running statistics as after training, so that another sound has other tiles."""
    torch.manual_seed(1)
    return _lively(VIBI(classifier, **{"width": 4, "rows": 5, "seconds": 0.06} | arguments))


def flint(classifier: Classifier, **arguments) -> FLINT:
    """FLINT with running statistics as after training, and attributes that speak for one class and against another."""
    torch.manual_seed(1)
    made = _lively(FLINT(classifier, **{"width": 4, "fine_width": 4, "n_attributes": 6} | arguments))
    nn.init.normal_(made.h.linear.weight, std=0.1)
    return made


CLASSIFIERS: dict[str, Callable[[], Classifier]] = {
    "vggsound": vggsound,
    "multilabel": lambda: vggsound(multilabel=True),
    "external": external,
    "instrument": instrument,
}
# Those whose feature maps PIQ and L2I read.
WITH_FEATURE_MAPS = {name: build for name, build in CLASSIFIERS.items() if name != "instrument"}


@dataclass(frozen=True)
class Case:
    """An interpreter under the shared contract.

    Attributes:
        name: shown by pytest.
        build: classifier -> interpreter.
        mask: whether it makes a mask on the STFT grid.
        additive: waveform + residual = input.
        trained: whether it is a torch module with weights of its own.
        needs_stem: whether `interpret` wants the known stem.
        binary: whether its mask is 0 or 1 only.
        by_class: whether the mask depends on the class asked for.
        stochastic: draws at random, from a generator at the interpreter's `seed`.
        suits: which classifiers it can explain.
    """

    name: str
    build: Callable[[Classifier], Interpreter]
    mask: bool = True
    additive: bool = False
    trained: bool = False
    needs_stem: bool = False
    binary: bool = False
    by_class: bool = False
    stochastic: bool = False
    suits: Callable[[Classifier], bool] = lambda classifier: True


def attribution(
    name: str,
    method: Callable[..., Interpreter],
    stochastic: bool = False,
    suits: Callable[[Classifier], bool] = lambda classifier: True,
    **arguments,
) -> Case:
    """A method without weights of its own, at settings that take few passes."""
    return Case(
        name, lambda it: method(it, **arguments), additive=True, by_class=True, stochastic=stochastic, suits=suits
    )


def trained(name: str, build: Callable[[Classifier], Interpreter], **flags) -> Case:
    """A method with weights of its own, which reads the classifier's feature maps."""
    return Case(name, build, trained=True, by_class=True, suits=has_feature_maps, **flags)


ATTRIBUTIONS = [
    attribution("saliency", Saliency),
    attribution("smoothgrad", SmoothGrad, stochastic=True, n_samples=2),
    attribution("integrated_gradients", IntegratedGradients, steps=2, max_batch=4),
    attribution("gradient_shap", GradientSHAP, stochastic=True, n_samples=3, max_batch=2),
    attribution("gradcam", GradCAM, suits=has_feature_maps),
    attribution("guided_gradcam", GuidedGradCAM, suits=has_feature_maps),
    attribution("occlusion", Occlusion, to_mask=AttributionMask(absolute=True), patch=(4000.0, 40.0)),
    attribution("lime_tiles", LIME, stochastic=True, tiles=(4, 3), n_samples=8),
    attribution("lime_nmf", LIME, stochastic=True, to_mask=AttributionMask(absolute=True), parts="nmf", n_components=2),
    attribution("lime_layers", LIME, stochastic=True, parts=LAYERS_IN_TIME, n_segments=4, n_samples=9),
    attribution(
        "rde_tiles",
        RDE,
        stochastic=True,
        tiles=(4, 3),
        filler="noise",
        solver=Concrete(steps=3, samples=2, weight=0.05),
    ),
    attribution(
        "rde_nmf",
        RDE,
        stochastic=True,
        parts="nmf",
        n_components=3,
        solver=MatchingPursuit(picks=1, penalty=0.0, game="deletion"),
    ),
    attribution("shapley", Shapley, to_mask=AttributionMask(absolute=True), parts="segments", n_segments=3),
    attribution(
        "shapley_kernel",
        Shapley,
        stochastic=True,
        to_mask=AttributionMask(absolute=True),
        parts=LAYERS_IN_TIME,
        n_segments=4,
        exact_parts=3,
        n_samples=16,
    ),
    attribution(
        "shapley_permutation",
        Shapley,
        stochastic=True,
        to_mask=AttributionMask(absolute=True),
        parts="tiles",
        tiles=(2, 3),
        exact_parts=3,
        estimator="permutation",
        n_samples=4,
    ),
    attribution("extremal", ExtremalPerturbation, areas=(0.2, 0.6), steps=3, lr=0.2, cells=(6, 5)),
    attribution(
        "extremal_noise",
        ExtremalPerturbation,
        stochastic=True,
        filler="noise",
        reward="margin",
        game="deletion",
        areas=(0.3,),
        steps=3,
        lr=0.2,
        cells=(6, 5),
    ),
    attribution("igos", IGOSPlusPlus, cells=(5, 4), steps=2, points=2, longest=2.0, tries=2),
    attribution(
        "segments_forest",
        SegmentSurrogate,
        stochastic=True,
        to_mask=AttributionMask(absolute=True, smooth=1),
        segment_seconds=0.05,
        n_samples=24,
    ),
    attribution(
        "segments_ridge",
        SegmentSurrogate,
        stochastic=True,
        to_mask=AttributionMask(absolute=True, smooth=1),
        surrogate="ridge",
        filler="noise",
        segment_seconds=0.05,
        n_samples=12,
        max_batch=5,
    ),
    attribution("rise", RISE, stochastic=True, n_masks=4, cells=(4, 3)),
]

INTERPRETERS = [
    trained("piq", piq),
    trained("piq_magnitude", lambda it: piq(it, domain="magnitude", shared=2), additive=True),
    trained("piq_binary", lambda it: piq(it, binary=True, normalize=True), binary=True),
    trained("piq_fill", lambda it: piq(it, binary=True, fill=True)),
    trained("piq_light", lambda it: piq(it, decoder="light")),
    trained("piq_detail", lambda it: piq(it, decoder="light", detail=True)),
    trained("piq_early_layer", lambda it: piq(it, layers=(0,), channels=6)),
    trained(
        "piq_stems",  # as recipes/esc50/piq_stems.yaml
        lambda it: piq(it, decoder="light", detail=True, stride=16, layers=(-1, 0), temperature=0.1, normalize=True),
    ),
    trained("l2i", l2i),
    trained("l2i_topk", lambda it: l2i(it, top_k=1, threshold=0.0)),
    trained("l2i_magnitude", lambda it: l2i(it, domain="magnitude"), additive=True),
    trained("lmac", lmac),
    trained("lmac_magnitude", lambda it: lmac(it, domain="magnitude", detail=True), additive=True),
    trained("lmac_binary", lambda it: lmac(it, binary=True, layers=(-1,)), binary=True),
    # The paper's own: the mask is the same for every class.
    Case("lmac_paper", lambda it: lmac(it, conditional=False), trained=True, suits=has_feature_maps),
    trained("lmac_td", lmac_td, mask=False, additive=True),
    trained("concepts", concepts, additive=True),
    trained("concepts_pca", lambda it: concepts(it, dictionary="pca", layer=0, top=2), additive=True),
    trained("explainer", lambda it: explainer(it, encoder="classifier"), additive=True),
    # An encoder of its own needs no feature maps.
    Case("explainer_own", explainer, trained=True, additive=True, by_class=True),
    Case(
        "explainer_log",
        lambda it: explainer(it, domain="log_magnitude", binary=True),
        trained=True,
        binary=True,
        by_class=True,
    ),
    trained("rtis", rtis, additive=True),
    trained("flint", flint, additive=True),
    trained("flint_decoder", lambda it: flint(it, mask_from="decoder", course=False), additive=True),
    # It explains the classifier's answer, whatever the class.
    Case("vibi", vibi, trained=True, additive=True, binary=True),
    Case("random_tiles", lambda it: RandomTiles(it, like=vibi(it)), additive=True, binary=True),
    Case("all_pass", AllPass, binary=True),
    Case("empty", Empty, binary=True),
    Case("random_moments", lambda it: RandomMoments(it, 0.02), additive=True, binary=True, stochastic=True),
    Case("threshold", Threshold, binary=True),
    Case("target_energy", lambda it: TargetMasking(it, EnergyMask(0.9)), binary=True),
    Case(
        "ideal_parts", lambda it: IdealParts(it, "bands", n_components=4), additive=True, needs_stem=True, binary=True
    ),
    Case("target_stem", lambda it: TargetMasking(it, StemMask(), "magnitude"), additive=True, needs_stem=True),
    Case(
        "target_stem_binary",
        lambda it: TargetMasking(it, StemMask("binary"), "magnitude"),
        additive=True,
        needs_stem=True,
        binary=True,
    ),
    Case("threshold_magnitude", lambda it: Threshold(it, 0.1, "magnitude"), additive=True, binary=True),
    Case("random", RandomMask, binary=True, stochastic=True),
    # Of two components whatever the class, so that the class does not count.
    Case(
        "random_components",
        lambda it: RandomComponents(it, like=l2i(it, top_k=2, threshold=-0.9)),
        suits=has_feature_maps,
    ),
    Case("loudest", Loudest, binary=True),
    Case(
        "loudest_like_piq",  # as many bins as PIQ keeps, so the class counts
        lambda it: Loudest(it, like=piq(it)),
        additive=True,
        binary=True,
        by_class=True,
        suits=has_feature_maps,
    ),
    Case(
        "wam",
        lambda it: WAM(it, levels=3, average="smooth", within="level", threshold=0.2, n_samples=2, noise=0.1),
        mask=False,
        additive=True,
        by_class=True,
        stochastic=True,
    ),
    Case(
        "wam_integrated",
        lambda it: WAM(it, "haar", n_samples=3, max_batch=4),
        mask=False,
        additive=True,
        by_class=True,
    ),
    Case(
        "cartoonx",
        lambda it: CartoonX(it, levels=2, n_segments=3, solver=Relaxed(steps=3, lr=0.2, samples=2, weight=0.1)),
        mask=False,
        additive=True,
        by_class=True,
        stochastic=True,
    ),
    Case(
        "rde_bands",
        lambda it: BandRDE(it, GaussianNoise(torch.ones(32), torch.ones(32)), Concrete(steps=4, samples=4)),
        mask=False,
        additive=True,
        by_class=True,
        stochastic=True,
        suits=has_bands,
    ),
    Case(
        "most_faithful",
        lambda it: MostFaithful(it, {"saliency": Saliency(it), "lime": LIME(it, tiles=(2, 2))}),
        additive=True,
        by_class=True,
    ),
    *ATTRIBUTIONS,
]
