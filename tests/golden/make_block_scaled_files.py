#!/usr/bin/env python3
"""Make tests/golden/block_scaled: numbers in NVFP4, MXFP4 and INT4 as compressed-tensors 0.19 rounds them in fp32.

    tests/golden/make_block_scaled_files.py [--out DIR]

One safetensors file a kind of numbers (usual, wide, tiny, ties), each with

    values                   F32 (rows, 128)
    FORMAT.packed            U8 (rows, 64)       what the format's compressor stores ...
    FORMAT.scale             F8_E4M3 or U8       ... (FORMAT: nvfp4, mxfp4)
    nvfp4.global_scale       F32 (1)
    int4.codes               I8 (rows, 128)      under BF16 scales of groups of 64
    int4.scale               BF16 (rows, 2)
    FORMAT.weights           F32 (rows, 128)     dequantized (FORMAT: int4 too)
    FORMAT.inputs            F32 (rows, 128)     rounded with dynamic scales; nvfp4 under the global scale of half of
                                                 the largest value, so that some scales saturate
"""
import argparse
import shutil
from pathlib import Path

import torch
from compressed_tensors.compressors.mx_utils import compress_mx_scale
from compressed_tensors.compressors.nvfp4.helpers import pack_fp4_to_uint8
from compressed_tensors.quantization import QuantizationArgs, preset_name_to_scheme
from compressed_tensors.quantization.lifecycle.forward import dequantize, fake_quantize, quantize
from compressed_tensors.quantization.utils import calculate_qparams, compute_dynamic_scales_and_zp, generate_gparam
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent
ROWS, COLS = 6, 128


def arguments_of(name, inputs):
    if name != "int4":
        scheme = preset_name_to_scheme(name, ["Linear"])
        return scheme.input_activations if inputs else scheme.weights
    return QuantizationArgs(num_bits=4, type="int", symmetric=True, strategy="group", group_size=64, dynamic=inputs)


def round_weights(values, name):
    """Codes, scales as floats, the global scale, and what the codes stand for."""
    arguments = arguments_of(name, inputs=False)
    groups = values.unflatten(-1, (-1, arguments.group_size))
    global_scale = generate_gparam(values.min(), values.max()) if name == "nvfp4" else None
    scale, zero = calculate_qparams(groups.amin(-1), groups.amax(-1), arguments, global_scale)
    if name == "int4":
        scale = scale.to(torch.bfloat16).float()  # as a bf16 model stores it
    codes = quantize(values, scale, zero, arguments, global_scale=global_scale)
    return codes, scale, global_scale, dequantize(codes, scale, zero, arguments, torch.float32, global_scale)


def round_inputs(values, name, global_scale=None):
    arguments = arguments_of(name, inputs=True)
    scale, zero = compute_dynamic_scales_and_zp(values, arguments, None, global_scale)
    return fake_quantize(values, scale, zero, arguments, global_scale)


def tensors_of(values):
    tensors = {"values": values}
    for name in ("nvfp4", "mxfp4", "int4"):
        codes, scale, global_scale, weights = round_weights(values, name)
        if name == "int4":
            tensors |= {"int4.codes": codes.to(torch.int8), "int4.scale": scale.to(torch.bfloat16)}
        else:
            stored = scale.to(torch.float8_e4m3fn) if name == "nvfp4" else compress_mx_scale(scale, torch.uint8)
            tensors |= {f"{name}.packed": pack_fp4_to_uint8(codes), f"{name}.scale": stored}
        if name == "nvfp4":
            tensors["nvfp4.global_scale"] = global_scale
        half = generate_gparam(values.min() / 2, values.max() / 2) if name == "nvfp4" else None
        tensors |= {f"{name}.weights": weights, f"{name}.inputs": round_inputs(values, name, half)}
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def kinds():
    generator = torch.Generator().manual_seed(2502)
    normal = torch.randn((ROWS, COLS), generator=generator)
    usual = normal * 0.02
    usual[1, 32:64] = 0
    usual[2, 5] = 300.0
    usual[3] *= 1e-4
    ties = torch.randint(-48, 49, (ROWS, COLS), generator=generator).float() / 8  # quarters of E2M1's steps
    ties[:, ::16] = 6.0
    ties[3:, ::16] = -7.5
    wide = normal * 10.0 ** (torch.arange(ROWS * COLS).reshape(ROWS, COLS) % 60 - 30)
    return {"usual": usual, "ties": ties, "wide": wide, "tiny": normal * 1e-37}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "block_scaled", help="where the files go")
    out = parser.parse_args().out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for name, values in kinds().items():
        save_file(tensors_of(values), out / f"{name}.safetensors")
        (out / f"{name}.safetensors").chmod(0o644)


if __name__ == "__main__":
    main()
