#!/usr/bin/env python3
"""Small files as the reference writers (the Python packages `safetensors` and `gguf`) write them: tests/golden/io.

    all_types.safetensors       every dtype that Neap lists, odd shapes, a scalar, an empty tensor, metadata
    all_types.gguf              every type of metadata value; F32, F16, BF16, Q8_0, Q4_0, I32 tensors of 1 to 4 dimensions
    all_types.values.safetensors    the float tensors of both files, as F32
    split-0000?-of-00003.gguf   one model in three files
    aligned.gguf                general.alignment = 64
"""
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType, GGUFWriter
from gguf.quants import dequantize, quantize
from safetensors.torch import save_file

OUT = Path(__file__).resolve().parent / "io"


def write_safetensors():
    ramp = torch.arange(-6, 6, dtype=torch.float32).reshape(3, 4) / 8
    tensors = {"f64": ramp.double(), "f32": ramp, "f16": ramp.half(), "bf16": ramp.bfloat16(), "f8_e4m3": ramp.to(torch.float8_e4m3fn),
               "f8_e5m2": ramp.to(torch.float8_e5m2), "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 7),
               "cube": torch.arange(24, dtype=torch.bfloat16).reshape(2, 3, 4), "naïve.名": torch.ones(5),
               "boolean": torch.tensor([True, False, True])}
    for name, dtype in {"i64": torch.int64, "i32": torch.int32, "i16": torch.int16, "i8": torch.int8, "u8": torch.uint8}.items():
        tensors[name] = torch.arange(5, dtype=dtype)
    save_file(tensors, OUT / "all_types.safetensors", metadata={"format": "pt"})
    return {f"safetensors.{name}": tensor.float() for name, tensor in tensors.items()
            if tensor.dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)}


def write_gguf():
    rng = np.random.default_rng(3)
    writer = GGUFWriter(OUT / "all_types.gguf", "llama")
    for kind, value in {GGUFValueType.UINT8: 200, GGUFValueType.INT8: -100, GGUFValueType.UINT16: 60000, GGUFValueType.INT16: -30000,
                        GGUFValueType.UINT32: 4000000000, GGUFValueType.INT32: -2000000000, GGUFValueType.UINT64: 2**63 + 1,
                        GGUFValueType.INT64: -2**62, GGUFValueType.FLOAT32: 0.5, GGUFValueType.FLOAT64: 1e-300,
                        GGUFValueType.BOOL: True, GGUFValueType.STRING: "naïve 名"}.items():
        writer.add_key_value(f"test.{kind.name.lower()}", value, kind)
        if kind is GGUFValueType.BOOL:
            value = False
        writer.add_key_value(f"test.array.{kind.name.lower()}", [value, value], GGUFValueType.ARRAY, sub_type=kind)
    expected = {}
    for name, shape, kind in [("vector", (5,), Type.F32), ("matrix.weight", (3, 64), Type.Q8_0), ("half.weight", (3, 32), Type.F16),
                              ("brain.weight", (2, 7), Type.BF16), ("cube.weight", (2, 3, 32), Type.Q4_0),
                              ("four", (2, 1, 3, 4), Type.F32)]:
        data = rng.standard_normal(shape, dtype=np.float32)
        stored = quantize(data, kind)
        writer.add_tensor(name, stored, raw_dtype=kind)
        expected[f"gguf.{name}"] = torch.from_numpy(np.array(dequantize(stored, kind), dtype=np.float32).reshape(shape))
    writer.add_tensor("numbers", np.arange(6, dtype=np.int32).reshape(2, 3))
    finish(writer)
    return expected


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_split():
    writer = GGUFWriter(OUT / "split.gguf", "llama", split_max_tensors=2)
    for i in range(5):
        writer.add_tensor(f"t{i}", np.full((2, 3), i, np.float32))
    finish(writer)


def write_aligned():
    writer = GGUFWriter(OUT / "aligned.gguf", "llama")
    writer.add_custom_alignment(64)
    for i in range(2):
        writer.add_tensor(f"t{i}", np.full(3, i, np.float32))
    finish(writer)


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    save_file(write_safetensors() | write_gguf(), OUT / "all_types.values.safetensors")
    write_split()
    write_aligned()
