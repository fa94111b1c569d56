"""audiointerp explains the decisions of audio classifiers with sounds.

waveform -> STFT -> log-magnitude -> classifier -> Prediction
              |                                        |
              |                 interpreter(feature maps, target) -> mask on the STFT grid, in [0, 1]
              v                                        v
   mixture phase + masked magnitude -> inverse STFT -> waveform, exactly as long as the input
                                                       v
                     scores (per clip) -> tables, report page, listening test

contracts       what flows along the chain; what a classifier, an interpreter and a trainable object are
audio           read, write, resample; recordings: the same for hours, a window at a time
spectrogram     STFT and inverse; masking: mask -> waveform
datasets        clips, folds, batches, mixtures, augmentation, the embedded default
classifiers     the PIQ paper's CNN, L2I by design, instruments; wrappers for any other (Hugging Face's AST)
quantization    codes that belong to classes, PIQ's; nmf: dictionaries of spectra, L2I's
components      a clip split into audible parts: tiles, bands, NMF components
rate_distortion the fewest parts that must stay, whatever the parts; fillers, inpainting: what stands in for the others
logfrequency    a note's magnitude and phase on a log axis, and back; magnitude_phase: which of the two must stay
interpreters    one file a method
metrics         pure functions, one value a clip; judging: an interpretation -> every score
recipe          YAML -> objects, strictly; experiment: a recipe, run; training: the loop
evaluation      items x interpreters -> WAVs and tables; report: tables -> one page
comparison      every method on the same sounds; sanity: checks that can fail a method; statistics: intervals, tests
listening       a run folder -> listening tests; answers -> opinion scores, intervals, tests
bundle          what people share
"""

import lazy_loader

__version__ = "0.1.0"

# Imported at first use, from what __init__.pyi names, so that `audiointerp --help` needs no torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
