#!/usr/bin/env python3
"""GGUF files of Neap against the `gguf` package, live.

    gguf_peer.py [--neap build/dev/cli/neap]

A small model of random weights as Neap quantizes it to each type: the package reads the file; every decided matrix, dequantized by the
package, is as near to the source's as the type allows, with q's and k's rows where llama.cpp has them; everything else is the source's own values; and Neap,
which reads the file as a source of its own, finds the package's values (through compressed-tensors' dense copies of ignored layers).
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "tests/golden"), str(ROOT / "tests/support")]

import gguf  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from byte_tokenizer import byte_tokenizer  # noqa: E402
from make_tiny_gguf import gguf_name, interleave  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

# Root of the mean squared error over that of the weights, normally distributed: at most so much.
ERRORS = {"Q2_K": 0.31, "Q3_K": 0.17, "Q4_0": 0.1, "IQ4_NL": 0.09, "Q4_1": 0.085, "Q4_K_S": 0.085, "Q5_0": 0.05, "Q5_K_S": 0.042, "Q5_1": 0.042,
          "Q6_K": 0.022, "Q8_0": 0.007, "MXFP4": 0.12, "NVFP4": 0.09}
TYPES = {"Q4_K_S": "Q4_K", "Q5_K_S": "Q5_K"}
PURE = {"NVFP4": []}  # with embedding and head in Q8_0
KEPT = "re:.*up_proj"
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "float32", "hidden_size": 256, "intermediate_size": 512,
          "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 259, "max_position_embeddings": 128,
          "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": False}


def write_model(folder):
    torch.manual_seed(1)
    hidden, inner, kv, vocabulary = 256, 512, 64, CONFIG["vocab_size"]
    tensors = {"model.embed_tokens.weight": torch.randn(vocabulary, hidden), "model.norm.weight": torch.ones(hidden),
               "lm_head.weight": torch.randn(vocabulary, hidden)}
    for layer in range(2):
        for name, shape in {"self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (kv, hidden), "self_attn.v_proj": (kv, hidden),
                            "self_attn.o_proj": (hidden, hidden), "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden),
                            "mlp.down_proj": (hidden, inner)}.items():
            tensors[f"model.layers.{layer}.{name}.weight"] = 0.05 * torch.randn(shape)
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{layer}.{name}.weight"] = torch.ones(hidden)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text(json.dumps(byte_tokenizer()))


def source_tensors(folder):
    """Under GGUF's names, rows in GGUF's order."""
    config, tensors = CONFIG, {}
    for name, value in load_file(folder / "model.safetensors").items():
        value = value.float().numpy()
        if name.endswith("q_proj.weight"):
            value = interleave(value, config["num_attention_heads"])
        elif name.endswith("k_proj.weight"):
            value = interleave(value, config["num_key_value_heads"])
        tensors[gguf_name(name)] = value
    return tensors


def run(*arguments):
    result = subprocess.run([str(a) for a in arguments], capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(map(str, arguments))}:\n{result.stderr}")


def read(path):
    reader = gguf.GGUFReader(path)
    scales = {t.name: t.data for t in reader.tensors if t.name.endswith(".scale")}  # of matrices in NVFP4
    return reader, {t.name: (t.tensor_type.name, gguf.quants.dequantize(t.data, t.tensor_type) * scales.get(t.name.replace(".weight", ".scale"), np.float32(1)))
                    for t in reader.tensors if t.name not in scales}


def check(kind, neap, model, folder, source):
    out, again = folder / kind, folder / f"{kind}-read"
    run(neap, "quantize", model, "-o", out, "--scheme", f"GGUF:{kind}", "--method", "rtn", "--ignore", KEPT, *PURE.get(kind, ["--pure"]))
    reader, tensors = read(out / f"{kind}.gguf")
    assert set(tensors) == set(source), set(tensors) ^ set(source)
    assert reader.fields["general.architecture"].contents() == "llama"
    decided = 0
    for name, (stored, values) in tensors.items():
        if stored == "F32":
            assert np.array_equal(values, source[name]), f"{kind}: {name} is not the source's"
            continue
        decided += 1
        assert stored == (TYPES.get(kind, kind) if kind not in PURE or name.startswith("blk.") else "Q8_0"), f"{kind}: {name} is {stored}"
        error = np.sqrt(np.mean((values - source[name]) ** 2) / np.mean(source[name] ** 2))
        assert error < ERRORS[kind], f"{kind}: {name} is {error:.4f} from the source"
    # Read by Neap as a source: matrices that it leaves alone are its own readings of the blocks, rounded to F16.
    run(neap, "quantize", out, "-o", again, "--bits", 8, "--group-size", 4, "--method", "rtn", "--ignore",
        "re:.*(q|k|v|o|gate|up)_proj")
    copies = load_file(again / "model.safetensors")
    compared = 0
    for name, value in copies.items():
        if not name.endswith("_proj.weight"):
            continue
        found = value.float().numpy()
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            found = interleave(found, 8 if "q_proj" in name else 2)
        meant = torch.from_numpy(tensors[gguf_name(name)][1].copy()).to(value.dtype).float().numpy()
        assert np.array_equal(found, meant), f"{kind}: Neap reads {name} otherwise"
        compared += 1
    assert decided and compared
    return decided, compared


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neap", default=ROOT / "build/dev/cli/neap")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        model = folder / "model"
        model.mkdir()
        write_model(model)
        for kind in ERRORS:
            decided, compared = check(kind, arguments.neap, model, folder, source_tensors(model))
            print(f"{kind}: {decided} matrices decided, {compared} equal to Neap's reading")


if __name__ == "__main__":
    main()
