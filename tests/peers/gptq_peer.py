#!/usr/bin/env python3
"""Neap's GPTQ files, unpacked by the format's definition in NumPy.

    gptq_peer.py [--neap build/dev/cli/neap]

The small golden model in every number of bits and both versions: weights unpacked here are those of the compressed-tensors file
that Neap writes of the same recipe, unpacked by the compressed-tensors package.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
from compressed_tensors.compressors import unpack_from_int32
from safetensors.torch import load_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "tests/golden/models/llama2"
LAYERS = "re:.*mlp.*"  # 44 wide: no whole number of words


def unpack(words, bits, count):
    """Codes down the first axis of (words, columns), least significant bit first."""
    stream = (words.astype(np.uint32)[:, None, :] >> np.arange(32, dtype=np.uint32)[None, :, None]) & 1
    stream = stream.reshape(-1, words.shape[1])[:count * bits].reshape(count, bits, -1)
    return (stream * (1 << np.arange(bits))[None, :, None]).sum(1)


def gptq_weight(tensors, module, bits, version):
    qweight, qzeros, scales, g_idx = (tensors[f"{module}.{part}"].numpy() for part in ("qweight", "qzeros", "scales", "g_idx"))
    codes = unpack(qweight, bits, len(g_idx))                                  # (inputs, outputs)
    zeros = unpack(qzeros.T, bits, scales.shape[1]).T + (1 if version == "gptq" else 0)  # (groups, outputs)
    return (scales.astype(np.float32)[g_idx] * (codes - zeros[g_idx])).T


def packed_weight(tensors, module, bits, symmetric):
    shape = tensors[f"{module}.weight_shape"].tolist()
    codes = unpack_from_int32(tensors[f"{module}.weight_packed"], bits, torch.Size(shape)).float()
    scale = tensors[f"{module}.weight_scale"].float()
    zero = torch.zeros_like(scale)
    if not symmetric:
        zero = unpack_from_int32(tensors[f"{module}.weight_zero_point"], bits, torch.Size([shape[0], scale.shape[1]]), packed_dim=0).float()
    repeat = shape[1] // scale.shape[1]
    return (scale.repeat_interleave(repeat, 1) * (codes - zero.repeat_interleave(repeat, 1))).numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neap", default=ROOT / "build/dev/cli/neap")
    neap = parser.parse_args().neap
    with tempfile.TemporaryDirectory() as scratch:
        for bits in (2, 3, 4, 8):
            for version, symmetric in (("gptq", True), ("gptq_v2", True), ("gptq_v2", False)):
                ignore = LAYERS + ("|.*self_attn.[qkv]_proj" if bits == 3 else "")  # k and v: 16 outputs, half a stream
                outputs = {}
                for form in (version, "compressed-tensors"):
                    out = pathlib.Path(scratch) / f"{bits}-{version}-{symmetric}-{form}"
                    arguments = [neap, "quantize", MODEL, "-o", out, "--method", "rtn", "--bits", bits, "--group-size", 32,
                                 "--sym" if symmetric else "--asym", "--format", form, "--ignore", ignore]
                    result = subprocess.run([str(a) for a in arguments], capture_output=True, text=True)
                    if result.returncode:
                        sys.exit(result.stderr)
                    outputs[form] = load_file(out / "model.safetensors"), json.loads((out / "config.json").read_text())["quantization_config"]
                tensors, words = outputs[version]
                assert words["checkpoint_format"] == version and words["bits"] == bits and words["sym"] == symmetric
                modules = [name[:-len(".qweight")] for name in tensors if name.endswith(".qweight")]
                for module in modules:
                    found = gptq_weight(tensors, module, bits, version)
                    meant = packed_weight(outputs["compressed-tensors"][0], module, bits, symmetric)
                    assert np.array_equal(found, meant), f"{bits} bits, {version}: {module}"
                print(f"{bits} bits, {version}, {'symmetric' if symmetric else 'asymmetric'}: {len(modules)} modules equal")


if __name__ == "__main__":
    main()
