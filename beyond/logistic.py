"""Logistic regression of counts: fit, likelihood ratio test, the place of one half.

Pure functions that need NumPy alone, so that this file can be copied alone.
"""

import math

import numpy as np


def fit(x, successes, trials, steps=60, ridge=1e-6):
    """Fit success to x by logistic regression: x (cells, k) with an intercept added,
    successes and trials (..., cells). Returns the coefficients (..., 1 + k), the
    intercept first, and the log-likelihood (...).

    Newton's steps. Where the cells are separated, all failures on one side and all
    successes on the other, the likelihood grows with the coefficients without end. A
    ridge of 1e-6 stops them there. It takes less than 0.001 from the log-likelihood, so
    that the ratio of two likelihoods is what it would be without it.
    """
    X = np.column_stack((np.ones(len(x)), x))  # (cells, 1 + k)
    successes = np.asarray(successes, float)
    trials = np.asarray(trials, float)
    coefficients = np.zeros((*successes.shape[:-1], X.shape[1]))
    for _ in range(steps):
        p = expit(coefficients @ X.T)  # (..., cells)
        slope = (successes - trials * p) @ X - ridge * coefficients
        weights = (trials * p * (1 - p))[..., None]
        bend = X.T @ (weights * X) + ridge * np.eye(X.shape[1])
        step = np.linalg.solve(bend, slope[..., None])[..., 0]
        coefficients = coefficients + step
    logits = coefficients @ X.T
    likelihood = -successes * np.logaddexp(0, -logits)
    likelihood -= (trials - successes) * np.logaddexp(0, logits)
    return coefficients, likelihood.sum(-1)


def expit(x):
    """Return 1 / (1 + exp(-x)), which does not overflow."""
    return 0.5 * (1 + np.tanh(x / 2))


def determined(x):
    """Whether the coefficients of x (cells, k) and the intercept can be told apart."""
    X = np.column_stack((np.ones(len(x)), x))
    return bool(len(x)) and np.linalg.matrix_rank(X) == X.shape[1]


def ratio_test(x, successes, trials, column):
    """Return what the likelihood ratio test says of one coefficient: its estimate and p.
    x is (cells, k), column is that of x which the test leaves out."""
    coefficients, with_it = fit(x, successes, trials)
    _, without = fit(np.delete(x, column, axis=1), successes, trials)
    twice = max(0.0, 2 * float(with_it - without))
    return float(coefficients[1 + column]), math.erfc(math.sqrt(twice / 2))


def half_at(x, successes, trials):
    """Return the x (...) at which half of the runs succeed, where success falls with x
    (cells,). Where the fit does not fall or all end alike it is plus infinity if most
    succeed, else minus infinity."""
    coefficients, _ = fit(x[:, None], successes, trials)
    intercept = coefficients[..., 0]
    slope = coefficients[..., 1]
    succeed = np.sum(successes, -1)
    every = np.sum(trials, -1)
    falls = (slope < 0) & (succeed > 0) & (succeed < every)
    place = -intercept / np.where(falls, slope, 1)
    return np.where(falls, place, np.where(2 * succeed > every, np.inf, -np.inf))
