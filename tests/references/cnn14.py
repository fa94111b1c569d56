"""CNN14 as its authors wrote it: a state dict with their names, and the network as plain calls on it.

Time before frequency, as in https://github.com/qiuqiangkong/audioset_tagging_cnn (pytorch/models.py); the front end is
librosa's, which torchlibrosa reproduces.
"""

import librosa
import numpy as np
import torch
from torch.nn import functional

SETTINGS = {32000: (1024, 320, 50, 14000), 16000: (512, 160, 50, 8000), 8000: (256, 80, 50, 4000)}


def official_state(channels=4, classes=527, rate=32000, hidden=None, seed=0):
    """Random weights with the names and shapes of the official checkpoints, front end included."""
    n_fft, _, low, high = SETTINGS[rate]
    draw = torch.Generator().manual_seed(seed)
    state = {}

    def norm(name, count):
        state[f"{name}.weight"] = 0.5 + torch.rand(count, generator=draw)
        state[f"{name}.bias"] = 0.3 * torch.randn(count, generator=draw)
        state[f"{name}.running_mean"] = 0.3 * torch.randn(count, generator=draw)
        state[f"{name}.running_var"] = 0.3 + torch.rand(count, generator=draw)
        state[f"{name}.num_batches_tracked"] = torch.tensor(1)

    frames = np.exp(-2j * np.pi / n_fft * np.outer(np.arange(n_fft // 2 + 1), np.arange(n_fft)))
    frames = frames * librosa.filters.get_window("hann", n_fft)
    state["spectrogram_extractor.stft.conv_real.weight"] = torch.tensor(frames.real[:, None]).float()
    state["spectrogram_extractor.stft.conv_imag.weight"] = torch.tensor(frames.imag[:, None]).float()
    bank = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=64, fmin=low, fmax=high)
    state["logmel_extractor.melW"] = torch.tensor(bank.T)
    norm("bn0", 64)
    state["bn0.running_mean"] -= 40  # decibels
    state["bn0.running_var"] *= 200
    before = 1
    for number in range(6):
        after = channels << number
        for name, count in (("conv1", before), ("conv2", after)):
            kernel = torch.randn(after, count, 3, 3, generator=draw) / (9 * count) ** 0.5
            state[f"conv_block{number + 1}.{name}.weight"] = kernel
            norm(f"conv_block{number + 1}.bn{name[-1]}", after)
        before = after
    hidden = hidden or before
    for name, shape in (("fc1", (hidden, before)), ("fc_audioset", (classes, hidden))):
        state[f"{name}.weight"] = torch.randn(shape, generator=draw) / shape[1] ** 0.5
        state[f"{name}.bias"] = 0.1 * torch.randn(shape[0], generator=draw)
    return state


def log_mel(waveform, rate=32000):
    """librosa's mel spectrogram in dB of (batch, samples): (batch, 1, time, band)."""
    n_fft, hop, low, high = SETTINGS[rate]
    made = librosa.feature.melspectrogram(
        y=waveform.double().numpy(), sr=rate, n_fft=n_fft, hop_length=hop, n_mels=64, fmin=low, fmax=high,
        pad_mode="reflect", dtype=np.float64,
    )  # fmt: skip
    return torch.tensor(10 * np.log10(np.maximum(made, 1e-10))).float().transpose(1, 2)[:, None]


def official_logits(state, waveform, rate=32000):
    """Logits of (batch, samples), the values before the sigmoid of the authors' `clipwise_output`."""

    def norm(x, name):
        names = ("running_mean", "running_var", "weight", "bias")
        return functional.batch_norm(x, *(state[f"{name}.{each}"] for each in names))

    x = log_mel(waveform, rate)
    x = norm(x.transpose(1, 3), "bn0").transpose(1, 3)
    for number in range(1, 7):
        for which in "12":
            x = functional.conv2d(x, state[f"conv_block{number}.conv{which}.weight"], padding=1)
            x = norm(x, f"conv_block{number}.bn{which}").relu()
        x = functional.avg_pool2d(x, 1 if number == 6 else 2)
    x = x.mean(3)
    x = x.max(2).values + x.mean(2)
    x = functional.linear(x, state["fc1.weight"], state["fc1.bias"]).relu()
    return functional.linear(x, state["fc_audioset.weight"], state["fc_audioset.bias"])
