#!/usr/bin/env python3
"""Prints the polynomial coefficients of src/kernel/math_v16.h and the error each reaches in f32.

Weighted minimax fits by Lawson's iteration: least squares on a Chebyshev grid, each weight multiplied by its error and
normalised, until the errors level out. Needs numpy. The tests (tests/kernel) prove the result; this shows its origin.
"""
import math

import numpy as np

GRID = 4000
erfc = np.vectorize(math.erfc)


def fit(f, weight, low, high, degree, rounds=400):
    """Coefficients, in rising powers of t in [-1, 1], of the polynomial nearest to f on [low, high]."""
    t = np.cos(np.pi * (np.arange(GRID) + 0.5) / GRID)
    x = (t + 1) / 2 * (high - low) + low
    scale = weight(x)
    basis = np.polynomial.chebyshev.chebvander(t, degree) * scale[:, None]
    y = f(x) * scale
    w = np.ones(GRID) / GRID
    best = (math.inf, None)
    for _ in range(rounds):
        root = np.sqrt(w)
        c = np.linalg.lstsq(basis * root[:, None], y * root, rcond=None)[0]
        error = np.abs(basis @ c - y)
        if error.max() < best[0]:
            best = (error.max(), c)
        w = w * error
        w /= w.sum()
    return np.polynomial.chebyshev.cheb2poly(best[1])


def f32(x):
    return np.asarray(x).astype(np.float32)


def horner(c, t):
    """Fused multiply-adds in f32, as the kernels evaluate."""
    r = np.full_like(t, f32(c[-1]))
    for k in f32(c)[-2::-1]:
        r = f32(r.astype(np.float64) * t + k)
    return r


def show(name, c):
    print(f"{name}, highest power first:")
    print("    " + ", ".join(f"{float(k):.9g}f" for k in f32(c)[::-1]))


def half_erfc():
    """h(a) = erfc(a / sqrt 2) / 2 on [0, 5.25]; gelu(x) = max(x, 0) - |x| h(|x|)."""
    top = 5.25
    c = fit(lambda a: erfc(a / math.sqrt(2)) / 2, lambda a: a + 0.25, 0, top, 15)
    show("half erfc in t = a * 2 / 5.25 - 1", c)
    x = f32(np.linspace(-8, 8, 800001))
    a = np.minimum(np.abs(x), f32(top))
    h = horner(c, f32(a.astype(np.float64) * f32(2 / top) - 1))
    y = f32(np.maximum(x, 0).astype(np.float64) - a.astype(np.float64) * h)
    exact = x.astype(np.float64) * (1 - erfc(x.astype(np.float64) / math.sqrt(2)) / 2)
    print(f"    absolute error of gelu <= {np.abs(y - exact).max():.2e}")


def exponential():
    """exp(r) = 1 + r + r^2 q(r) on [-ln 2 / 2, ln 2 / 2]."""
    top = math.log(2) / 2 * 1.0001

    def q(r):
        series = 0.5 + r / 6 + r * r / 24
        return np.where(np.abs(r) < 1e-3, series, (np.expm1(r) - r) / np.where(r == 0, 1, r * r))

    c = fit(q, lambda r: r * r + 1e-4, -top, top, 4)
    c = c / top ** np.arange(len(c))  # from t back to r
    show("q of exp", c)
    r = f32(np.linspace(-top, top, 400001))
    p = horner(np.concatenate([[1, 1], c]), r)
    print(f"    relative error of exp <= {np.abs(p / np.exp(r.astype(np.float64)) - 1).max():.2e}")


def tangent():
    """tanh(y) = y + y^3 q(y^2) on [0, 0.625]."""
    top = 0.625**2

    def q(s):
        y = np.sqrt(np.maximum(s, 1e-12))
        return np.where(s < 1e-4, -1 / 3 + 2 * s / 15, (np.tanh(y) - y) / y**3)

    c = fit(q, lambda s: s + 1e-3, 0, top, 4)
    c = np.polynomial.Polynomial(c)(np.polynomial.Polynomial([-1, 2 / top])).coef
    show("q of tanh", c)
    y = f32(np.linspace(1e-6, 0.625, 400001))
    s = f32(y.astype(np.float64) ** 2)
    r = f32(f32(y.astype(np.float64) * s).astype(np.float64) * horner(c, s) + y)
    print(f"    relative error of tanh below 0.625 <= {np.abs(r / np.tanh(y.astype(np.float64)) - 1).max():.2e}")


if __name__ == "__main__":
    half_erfc()
    exponential()
    tangent()
