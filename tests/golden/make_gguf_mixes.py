#!/usr/bin/env python3
"""Which types llama-quantize gives the matrices of models of several shapes: tests/golden/gguf_mixes.json.

    tests/golden/make_gguf_mixes.py --llama-quantize PROGRAM

Files of zeros are quantized with --dry-run, with an imatrix and without. For each matrix by role the types of all layers stand in a
string, runs of one type as TYPE*COUNT. The file of the last run was made by the llama.cpp of llama-cpp-python 0.3.36.
"""
import argparse
import itertools
import json
import pathlib
import re
import subprocess
import tempfile

import gguf
import numpy as np

MIXES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL", "Q2_K", "Q2_K_S", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_S",
         "Q5_K_M", "Q6_K"]
KEYS = ("architecture", "layers", "hidden", "intermediate", "heads", "kv_heads", "tied_head")
SHAPES = {"own values, own head": ("llama", 32, 256, 512, 8, 8, False),
          "values shared by two": ("qwen3", 28, 256, 512, 8, 4, True),
          "values shared by four": ("llama", 30, 512, 256, 8, 2, True),
          "70B": ("llama", 80, 256, 256, 8, 1, False),
          "65B": ("llama", 80, 256, 256, 8, 8, False),
          "72B": ("qwen2", 80, 256, 256, 8, 8, False),
          "SmolLM2-135M": ("llama", 30, 576, 1536, 9, 3, True),
          "rows of 40": ("llama", 2, 40, 72, 2, 2, False)}
VOCABULARY = 32
ROLES = {"attn_q": "q", "attn_k": "k", "attn_v": "v", "attn_output": "o", "ffn_gate": "gate", "ffn_up": "up", "ffn_down": "down"}


def matrices(architecture, layers, hidden, intermediate, heads, kv_heads, tied_head):
    kv = hidden // heads * kv_heads
    shapes = {"attn_q": (hidden, hidden), "attn_k": (kv, hidden), "attn_v": (kv, hidden), "attn_output": (hidden, hidden),
              "ffn_gate": (intermediate, hidden), "ffn_up": (intermediate, hidden), "ffn_down": (hidden, intermediate)}
    yield "token_embd.weight", (VOCABULARY, hidden)
    for layer in range(layers):
        for role, shape in shapes.items():
            yield f"blk.{layer}.{role}.weight", shape
    if not tied_head:
        yield "output.weight", (VOCABULARY, hidden)


def write_model(path, shape):
    architecture, layers, hidden, intermediate, heads, kv_heads, _ = shape
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(layers)
    writer.add_context_length(128)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(intermediate)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(hidden // heads)
    writer.add_vocab_size(VOCABULARY)
    for name, extents in matrices(*shape):
        writer.add_tensor(name, np.zeros(extents, np.float16))
    finish(writer)


def write_imatrix(path, shape):
    writer = gguf.GGUFWriter(path, "imatrix")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["ones"])
    writer.add_uint32("imatrix.chunk_count", 1)
    writer.add_uint32("imatrix.chunk_size", 512)
    for name, extents in matrices(*shape):
        writer.add_tensor(f"{name}.in_sum2", np.ones((1, extents[1]), np.float32))
        writer.add_tensor(f"{name}.counts", np.ones((1, 1), np.float32))
    finish(writer)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def run_lengths(types):
    return " ".join(f"{kind}*{len(list(run))}" for kind, run in itertools.groupby(types))


def types_of(program, model, mix, imatrix):
    words = subprocess.run([program, "--dry-run", *(["--imatrix", imatrix] if imatrix else []), model, mix], capture_output=True, text=True)
    # The new type comes last, in brackets; a matrix that stays as it is has none.
    rows = re.findall(r"^\[ *\d+/ *\d+\] (\S+) +- \[.*?type = +(\w+).*?(?:\((\w+)\))?$", words.stdout + words.stderr, re.M)
    found = {name: (new or old).upper() for name, old, new in rows}
    by_role = {}
    for name, kind in found.items():
        part = name.split(".")
        role = ROLES[part[2]] if part[0] == "blk" else {"token_embd": "embedding", "output": "head"}[part[0]]
        by_role.setdefault(role, {})[int(part[1]) if part[0] == "blk" else 0] = kind
    assert by_role, words.stdout + words.stderr
    return {role: run_lengths(kind for _, kind in sorted(layers.items())) for role, layers in by_role.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-quantize", required=True)
    program = parser.parse_args().llama_quantize
    golden = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, shape in SHAPES.items():
            model, imatrix = pathlib.Path(scratch) / "model.gguf", pathlib.Path(scratch) / "imatrix.gguf"
            write_model(model, shape)
            write_imatrix(imatrix, shape)
            golden[name] = dict(zip(KEYS, shape))
            golden[name]["types"] = {mix: {"calibrated": types_of(program, model, mix, imatrix), "plain": types_of(program, model, mix, None)}
                                     for mix in MIXES}
    path = pathlib.Path(__file__).resolve().parent / "gguf_mixes.json"
    path.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
