#!/usr/bin/env python3
"""Codes that the published recursions of GPTQ and GPTAQ give on small layers, for tests/solve.

    pip install numpy
    make_solver_files.py            # writes tests/golden/solve/*.f32

GPTQ: Frantar et al., arXiv 2210.17323, algorithm 1. GPTAQ: Li et al., arXiv 2504.02692, algorithm 1, with the authors'
block of 128 columns and share of 0.25. Both in fp64, by the upper Cholesky factor of the inverse, as published; neither
knows of nearest planes, which is what makes them judges. Grids are fixed beforehand.

A file is little-endian float32: rows, cols, group, bits, ridge, then W (rows, cols), H (cols, cols), D = X~'(X - X~)
(cols, cols), scales and zeros (rows, groups), codes (rows, cols).
"""
import pathlib
import numpy as np

OUT = pathlib.Path(__file__).resolve().parent / "solve"


def layer(rows, cols, group, bits, seed):
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(cols, cols)) / np.sqrt(cols) + np.eye(cols)
    runtime = rng.normal(size=(3 * cols, cols)) @ mix * rng.uniform(0.3, 2.0, cols)
    reference = runtime + 0.2 * rng.normal(size=runtime.shape) @ mix
    weight = (rng.normal(size=(rows, cols)) * 0.05).astype(np.float32)
    gram = (runtime.T @ runtime).astype(np.float32)
    drift = (runtime.T @ (reference - runtime)).astype(np.float32)
    highest, starts = 2 ** bits - 1, range(0, cols, group)
    low = np.stack([weight[:, i:i + group].min(1) for i in starts], 1)
    high = np.stack([weight[:, i:i + group].max(1) for i in starts], 1)
    scales = (high - low).astype(np.float64) / highest
    scales = np.ldexp(np.round(np.frexp(scales)[0] * 256), np.frexp(scales)[1] - 8)  # 8 significant bits
    return weight, gram, drift, scales, np.clip(np.round(-low / scales), 0, highest)


def recursion(weight, gram, drift, scales, zeros, group, bits, ridge, masked, block=128):
    w, h, d = weight.astype(np.float64), gram.astype(np.float64), drift.astype(np.float64)
    n, highest = w.shape[1], 2 ** bits - 1
    h[np.diag_indices(n)] += ridge * np.mean(np.diag(h))
    upper = np.linalg.cholesky(np.linalg.inv(h)).T
    p = 0.25 * np.triu(d.T @ upper.T, 1) @ upper if masked else np.zeros((n, n))
    codes, closest_tie = np.zeros(w.shape), 1.0
    for begin in range(0, n, block):
        end = min(begin + block, n)
        errors = np.zeros((len(w), end - begin))
        for i in range(begin, end):
            scale, zero, now = scales[:, i // group], zeros[:, i // group], w[:, i].copy()
            exact = np.clip(now / scale + zero, 0, highest)
            codes[:, i] = np.round(exact)
            closest_tie = min(closest_tie, np.abs(exact - np.floor(exact) - 0.5).min())
            error = (now - scale * (codes[:, i] - zero)) / upper[i, i]
            w[:, i:end] += np.outer(now, p[i, i:end]) - np.outer(error, upper[i, i:end])
            errors[:, i - begin] = error
        w[:, end:] += w[:, begin:end] @ p[begin:end, end:] - errors @ upper[begin:end, end:]
    assert closest_tie > 2e-5, f"fp32 could round the other way: {closest_tie}"
    return codes


def write(name, rows, cols, group, bits, seed, masked, ridge=0.01):
    weight, gram, drift, scales, zeros = layer(rows, cols, group, bits, seed)
    codes = recursion(weight, gram, drift, scales, zeros, group, bits, ridge, masked)
    values = [np.array([rows, cols, group, bits, ridge]), weight, gram, drift, scales, zeros, codes]
    np.concatenate([np.ravel(v) for v in values]).astype("<f4").tofile(OUT / f"{name}.f32")


def main():
    OUT.mkdir(exist_ok=True)
    write("gptq", rows=6, cols=200, group=32, bits=3, seed=1, masked=False)  # the last group is shorter
    write("gptaq", rows=6, cols=200, group=32, bits=3, seed=2, masked=True)
    write("gptaq-rows", rows=5, cols=130, group=130, bits=4, seed=3, masked=True)


main()
