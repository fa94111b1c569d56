"""Data sets as lists of clips, clips as batches, batches augmented, and mixtures with known stems."""

from audiointerp.datasets.augment.notes import BlankChannel, Equalize, Polarity, Transpose
from audiointerp.datasets.augment.spectrograms import FrequencyMask, TimeMask, WeakBinMask
from audiointerp.datasets.augment.waveforms import (
    Chain,
    Gain,
    Mixup,
    Remix,
    RemixPairs,
    TimeRoll,
    one_hot_labels,
)
from audiointerp.datasets.batches import ClipDataset
from audiointerp.datasets.clip import Clip
from audiointerp.datasets.clips import Splits, class_names, shuffle_labels, split
from audiointerp.datasets.columns import ClipColumns
from audiointerp.datasets.donors import DonorClips
from audiointerp.datasets.esc50 import read_esc50
from audiointerp.datasets.events import read_events, write_events
from audiointerp.datasets.features import FeatureDataset
from audiointerp.datasets.mixtures import Mixture, draw_pairs, gains_from_snr, mix, read_mixtures, write_mixtures
from audiointerp.datasets.nsynth import instrument_of, read_nsynth
from audiointerp.datasets.planting import CUES, band_of, make_cue, plant
from audiointerp.datasets.reading import read_clips
from audiointerp.datasets.relabelling import relabel, split_recordings
from audiointerp.datasets.scenes import PolyphonicScene, SceneSettings, SceneStem, read_scenes, write_scenes
from audiointerp.datasets.shards import read_shards
from audiointerp.datasets.synthetic import CLASSES as SYNTHETIC_CLASSES
from audiointerp.datasets.synthetic import make_synthetic
from audiointerp.datasets.table import read_table
from audiointerp.datasets.vggsound import read_vggsound

__all__ = [
    "CUES",
    "SYNTHETIC_CLASSES",
    "BlankChannel",
    "Chain",
    "Clip",
    "ClipColumns",
    "ClipDataset",
    "DonorClips",
    "Equalize",
    "FeatureDataset",
    "FrequencyMask",
    "Gain",
    "Mixture",
    "Mixup",
    "Polarity",
    "PolyphonicScene",
    "Remix",
    "RemixPairs",
    "SceneSettings",
    "SceneStem",
    "Splits",
    "TimeMask",
    "TimeRoll",
    "Transpose",
    "WeakBinMask",
    "band_of",
    "class_names",
    "draw_pairs",
    "gains_from_snr",
    "instrument_of",
    "make_cue",
    "make_synthetic",
    "mix",
    "one_hot_labels",
    "plant",
    "read_clips",
    "read_esc50",
    "read_events",
    "read_mixtures",
    "read_nsynth",
    "read_scenes",
    "read_shards",
    "read_table",
    "read_vggsound",
    "relabel",
    "shuffle_labels",
    "split",
    "split_recordings",
    "write_events",
    "write_mixtures",
    "write_scenes",
]
