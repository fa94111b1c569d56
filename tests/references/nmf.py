"""NMF number by number: one entry, row or column at a time, each from the residual that the others leave."""

import math

import numpy as np


def objective(data, dictionary, activations, loss, sparsity):
    """The objective with each column divided by its norm, per number of the data."""
    total = 0.0
    for f, t in np.ndindex(data.shape):
        model = sum(
            dictionary[f, k] / math.sqrt(sum(dictionary[:, k] ** 2)) * activations[k, t]
            for k in range(dictionary.shape[1])
        )
        x = data[f, t]
        if loss == "frobenius":
            total += (x - model) ** 2
        else:
            total += (x * math.log(x / model) if x > 0 else 0.0) - x + model
    return (total + sparsity * activations.sum()) / data.size


def activation_sweep(data, dictionary, activations, sparsity):
    """Each activation in turn at the minimum of the squared error plus sparsity times itself, not below 0."""
    activations = activations.copy()
    for k in range(len(activations)):
        for t in range(data.shape[1]):
            weight = sum(dictionary[f, k] ** 2 for f in range(len(data)))
            pull = 0.0
            for f in range(len(data)):
                rest = data[f, t] - sum(dictionary[f, j] * activations[j, t] for j in range(len(activations)) if j != k)
                pull += dictionary[f, k] * rest
            activations[k, t] = max(0.0, (pull - sparsity / 2) / weight)
    return activations


def dictionary_sweep(data, dictionary, activations, unit):
    """Each column in turn at its minimum: over all non-negative columns, or over those of unit norm."""
    dictionary = dictionary.copy()
    for k in range(dictionary.shape[1]):
        column = np.zeros(len(data))
        for f in range(len(data)):
            for t in range(data.shape[1]):
                rest = data[f, t] - sum(dictionary[f, j] * activations[j, t] for j in range(len(activations)) if j != k)
                column[f] += rest * activations[k, t]
        column = np.maximum(column, 0)
        if unit:
            if column.any():
                dictionary[:, k] = column / math.sqrt(sum(column**2))
        else:
            dictionary[:, k] = column / sum(activations[k] ** 2)
    return dictionary


def normalised_divergence_gradient(data, dictionary, activations, step=1e-6):
    """Central differences of the KL objective by the dictionary's entries, through the division by the norm."""
    gradient = np.zeros_like(dictionary)
    for f, k in np.ndindex(dictionary.shape):
        ends = []
        for sign in (1, -1):
            moved = dictionary.copy()
            moved[f, k] += sign * step
            ends.append(objective(data, moved, activations, "kl", 0.0))
        gradient[f, k] = (ends[0] - ends[1]) / (2 * step)
    return gradient
