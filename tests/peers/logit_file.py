"""Files of llama-perplexity --kl-divergence-base, which `neap eval --save-logits` writes too."""
import dataclasses
import pathlib
import struct

import numpy as np


@dataclasses.dataclass
class LogitFile:
    ids: np.ndarray                # (windows, tokens)
    log_probabilities: np.ndarray  # (predictions, vocabulary), down to 16 nats below each row's likeliest
    step: float                    # the coarsest in which they are stored


def read_logits(path):
    data = pathlib.Path(path).read_bytes()
    assert data[:8] == b"_logits_", path
    length, vocabulary, windows = struct.unpack_from("<Iii", data, 8)
    ids = np.frombuffer(data, "<i4", windows * length, 20).reshape(windows, length)
    rows = windows * (length - 1 - length // 2)
    words = np.frombuffer(data, "<u2", offset=20 + ids.nbytes).reshape(rows, -1)
    scale, least = np.ascontiguousarray(words[:, :4]).view("<f4").T
    steps = words[:, 4:4 + vocabulary].astype(np.float32)
    return LogitFile(ids, least[:, None] + scale[:, None] * steps, float(scale.max()))


def largest_difference(a, b, skip=16.0):
    """Of two arrays of log-probabilities, relative to their range, over all that both have within `skip` nats of the likeliest."""
    def near(x):
        return x > x.max(1, keepdims=True) - 0.99 * skip
    both = near(a) & near(b)
    assert both.mean() > 0.01, "hardly anything to compare"
    return float(np.abs(a - b)[both].max()) / skip
