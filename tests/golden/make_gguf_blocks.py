#!/usr/bin/env python3
"""Random blocks of every GGUF type that Neap reads, and the floats that the `gguf` package makes of them.

    tests/golden/make_gguf_blocks.py                     write tests/golden/io/gguf_blocks.safetensors (small)
    tests/golden/make_gguf_blocks.py --check PROGRAM     the same with 2048 times the blocks, compared by PROGRAM
                                                         (io_tests) in a temporary folder; its exit status

For each type T: "T.blocks" U8 (blocks, bytes per block), "T.values" F32 (blocks, elements per block). Most bytes are
random. The fp16 fields (scales, minima) take every special value in turn: zeros, subnormals, the largest, infinities,
NaN; 8-bit scales the ends of their ranges and what lies beyond. Values that are NaN may differ in payload between processors; everything else is exact.
"""
import argparse
import itertools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type
from gguf.quants import dequantize
from safetensors.numpy import save_file

# type -> byte offsets of its fp16 fields
FIELDS = {Type.F16: [0], Type.BF16: [], Type.Q8_0: [0], Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2],
          Type.Q2_K: [80, 82], Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208], Type.IQ4_NL: [0],
          Type.MXFP4: [], Type.NVFP4: []}
# type -> byte offsets of its 8-bit scales
SCALES = {Type.MXFP4: [0], Type.NVFP4: [0, 1, 2, 3]}
SPECIAL = [0x0000, 0x8000, 0x0001, 0x8001, 0x03ff, 0x83ff, 0x0400, 0x8400, 0x3c00, 0xbc00, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e01]
SPECIAL_SCALES = [0x00, 0x01, 0x02, 0x03, 0x07, 0x08, 0x7d, 0x7e, 0x7f, 0x80, 0x81, 0x87, 0xfc, 0xfe, 0xff]
BLOCKS = len(SPECIAL) + 3  # each special value once in each field, and three blocks of pure chance


def make(blocks, seed):
    rng = np.random.default_rng(seed)
    tensors = {}
    for kind, fields in FIELDS.items():
        elements, size = GGML_QUANT_SIZES[kind]
        data = rng.integers(0, 256, (blocks, size), dtype=np.uint8)
        for field in fields:
            for block, value in zip(range(blocks - 3), itertools.cycle(rng.permutation(SPECIAL))):
                data[block, field:field + 2] = np.array([value], np.uint16).view(np.uint8)
        for field in SCALES.get(kind, []):
            data[:blocks - 3, field] = list(itertools.islice(itertools.cycle(rng.permutation(SPECIAL_SCALES)), blocks - 3))
        with np.errstate(invalid="ignore", over="ignore"):
            values = dequantize(data, kind)
        tensors[f"{kind.name}.blocks"] = data
        tensors[f"{kind.name}.values"] = np.ascontiguousarray(values, dtype=np.float32).reshape(blocks, elements)
    return tensors


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", metavar="PROGRAM")
    options = parser.parse_args()
    if not options.check:
        save_file(make(BLOCKS, seed=1), Path(__file__).resolve().parent / "io" / "gguf_blocks.safetensors")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "gguf_blocks.safetensors")
        save_file(make(2048 * BLOCKS, seed=2), path)
        return subprocess.call([options.check, "--gtest_filter=*DequantizeTest.*"], env={**os.environ, "NEAP_GGUF_BLOCKS": path})


if __name__ == "__main__":
    sys.exit(main())
