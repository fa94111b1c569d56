"""audiointerp explains the decisions of audio classifiers with sounds.

waveform -> STFT -> log-magnitude -> classifier -> Prediction
              |                                        |
              |                 interpreter(feature maps, target) -> mask on the STFT grid, in [0, 1]
              v                                        v
   mixture phase + masked magnitude -> inverse STFT -> waveform, exactly as long as the input
                                                       v
                     scores (per clip) -> tables, report page, listening test

contracts     data types of the chain; interfaces of classifiers, interpreters and trainable modules. Read first
sound         files, recordings of any length, spectrograms, log-frequency bands, masks, NMF, audible components
metrics       scores, one value per clip; their names; intervals and tests
recipe        YAML -> objects, with every mistake reported first
processes     several processes that work on one command, and batches divided among them
results       a run folder: opened, appended to, read, drawn, shown as a page
datasets      clips, folds, batches, mixtures, scenes, augmentation, the embedded default
classifiers   the models that are explained: those of this package, and wrappers for any other
training      the training loop
interpreters  methods that explain a decision with a sound: attribution, PIQ, L2I, L-MAC, rate-distortion; controls
bundles       trained models as files to share
evaluation    sounds explained by interpreters: WAVs, figures, scores
runs          kinds of run that a recipe can start: training, comparison, sanity checks, ...
listening     a run folder -> listening tests; answers -> opinion scores, intervals, tests
explore       a page on this computer to hear, see and question the decision on a sound
commands      the commands of the command line

What most programs use; `dir(audiointerp)` has all names, and each has its own help, as in `help(audiointerp.GradCAM)`:

load              a trained model, or a published classifier by name
read, write       sound files
Waveform          a sound that knows its sample rate
External          a classifier made of your own module
GradCAM, LIME     two of the methods that need no training; all: `audiointerp.interpreters`
Interpretation    what a method returns: the sound that explains a decision
plot_comparison   the figure of several explanations of one sound
"""

import lazy_loader

__version__ = "0.1.0"

# Names in __init__.pyi are imported at first use, so that `audiointerp --help` needs no torch.
# Without `__all__`, `help(audiointerp)` is the text above, not 18,000 lines with all methods of torch's modules.
__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)
