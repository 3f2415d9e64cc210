#!/usr/bin/env python3
"""GGUF files of Neap against the `gguf` package, live.

    gguf_peer.py [--neap build/dev/cli/neap]

The small golden model as Neap quantizes it to each type: the package reads the file; every decided matrix, dequantized by the package,
is within a step of the source's, with q's and k's rows where llama.cpp has them; everything else is the source's own values; and Neap,
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
from safetensors.torch import load_file  # noqa: E402

MODEL = ROOT / "tests/golden/models/llama2"
BITS = {"Q4_0": 4, "Q4_1": 4, "Q5_0": 5, "Q5_1": 5, "Q8_0": 8, "IQ4_NL": 4}
KEPT = "re:.*up_proj"


def source_tensors(config):
    """Under GGUF's names, rows in GGUF's order."""
    tensors = {}
    for name, value in load_file(MODEL / "model.safetensors").items():
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
    return reader, {t.name: (t.tensor_type.name, gguf.quants.dequantize(t.data, t.tensor_type)) for t in reader.tensors}


def check(kind, neap, model, folder, source):
    out, again = folder / kind, folder / f"{kind}-read"
    run(neap, "quantize", model, "-o", out, "--scheme", f"GGUF:{kind}", "--method", "rtn", "--allow-fallback", "--ignore",
        KEPT)
    reader, tensors = read(out / f"{kind}.gguf")
    assert set(tensors) == set(source), set(tensors) ^ set(source)
    assert reader.fields["general.architecture"].contents() == "llama"
    decided = 0
    for name, (stored, values) in tensors.items():
        if stored not in BITS:
            assert np.array_equal(values, source[name]), f"{kind}: {name} is not the source's"
            continue
        decided += 1
        blocks = source[name].reshape(-1, 32)
        step = (blocks.max(1) - blocks.min(1) + np.abs(blocks).max(1)) / 2 ** BITS[stored]
        assert (np.abs(values.reshape(-1, 32) - blocks) <= 1.01 * step[:, None]).all(), f"{kind}: {name} is far from the source"
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
    config = json.loads((MODEL / "config.json").read_text())
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        model = folder / "model"
        model.mkdir()
        for name in ("config.json", "model.safetensors"):
            (model / name).write_bytes((MODEL / name).read_bytes())
        (model / "tokenizer.json").write_text(json.dumps(byte_tokenizer()))
        for kind in BITS:
            decided, compared = check(kind, arguments.neap, model, folder, source_tensors(config))
            print(f"{kind}: {decided} matrices decided, {compared} equal to Neap's reading")


if __name__ == "__main__":
    main()
