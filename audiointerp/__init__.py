"""audiointerp explains the decisions of audio classifiers with sounds.

waveform -> STFT -> log-magnitude -> classifier -> Prediction
              |                                        |
              |                 interpreter(feature maps, target) -> mask on the STFT grid, in [0, 1]
              v                                        v
   mixture phase + masked magnitude -> inverse STFT -> waveform, exactly as long as the input
                                                       v
                     scores (per clip) -> tables, report page, listening test

contracts     what flows along the chain; what a classifier, an interpreter and a trainable module are. Read first
sound         files, recordings of any length, spectrograms, log-frequency bands, masks, NMF, audible components
metrics       scores, one value a clip; their names; intervals and tests
recipe        YAML -> objects, strictly
results       a run folder: opened, appended to, read, drawn, shown as a page
datasets      clips, folds, batches, mixtures, augmentation, the embedded default
classifiers   the models that are explained: ours, and wrappers for any other
training      the training loop
interpreters  methods that explain a decision with a sound: attribution, PIQ, L2I, rate-distortion; controls
bundles       trained models as people share them
evaluation    sounds explained by interpreters: WAVs, figures, scores
runs          what a recipe does: one folder a kind of run
listening     a run folder -> listening tests; answers -> opinion scores, intervals, tests
commands      what each command of the command line does
"""

import lazy_loader

__version__ = "0.1.0"

# Imported at first use, from what __init__.pyi names, so that `audiointerp --help` needs no torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
