#!/usr/bin/env python3
"""`neap export` and model cards in the hands of those they are for.

    outputs_peer.py [--neap build/dev/cli/neap]

The small golden model in several integer grids: what the `gguf` package reads of the exported GGUF, and the compressed-tensors
package of what came back from it, are the values that it unpacks of the original, bit for bit. The card is read by huggingface_hub.
"""
import argparse
import json
import pathlib
import tempfile

import numpy as np
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from gguf_peer import byte_tokenizer, gguf_name, interleave, read, run
from gptq_peer import LAYERS, ROOT, packed_weight

MODEL = ROOT / "tests/golden/models/llama2"


def weights(folder):
    groups = json.loads((folder / "config.json").read_text())["quantization_config"]["config_groups"].values()
    tensors = load_file(folder / "model.safetensors")
    values = {}
    for module in (name[:-len(".weight_packed")] for name in tensors if name.endswith(".weight_packed")):
        named = [group for group in groups if module in group["targets"]] or [group for group in groups if "Linear" in group["targets"]]
        words = named[0]["weights"]
        values[module] = packed_weight(tensors, module, words["num_bits"], words["symmetric"])
    return values


def check_card(path):
    card = ModelCard.load(path)
    data = card.data.to_dict()
    assert data["base_model"] == "Org/Big-1.5" and data["base_model_relation"] == "quantized", data
    assert data["license"] == "mit" and data["language"] == ["en", "no"], data
    assert "neap" in data["tags"] and data["pipeline_tag"] == "text-generation", data


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neap", default=ROOT / "build/dev/cli/neap")
    neap = parser.parse_args().neap
    config = json.loads((MODEL / "config.json").read_text())
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        model = folder / "model"
        model.mkdir()
        for name in ("config.json", "model.safetensors"):
            (model / name).write_bytes((MODEL / name).read_bytes())
        (model / "tokenizer.json").write_text(json.dumps(byte_tokenizer()))
        (model / "README.md").write_text("---\nlicense: mit\nlanguage:\n- en\n- \"no\"\n---\nBig.\n")
        for bits in (2, 3, 4, 5, 8):
            for grid in ("--sym", "--asym")[:1 if bits == 8 else 2]:  # Q8_0 counts from its middle
                out, gguf, back = (folder / f"{bits}{grid}{end}" for end in ("", ".gguf", "-back"))
                run(neap, "quantize", model, "-o", out, "--method", "rtn", "--bits", bits, "--group-size", 32, grid, "--ignore", LAYERS,
                    "--base-model", "Org/Big-1.5")
                run(neap, "export", out, "--format", "gguf", "-o", gguf)
                run(neap, "export", gguf, "--format", "compressed-tensors", "-o", back, "--allow-dense")
                meant, returned = weights(out), weights(back)
                stored = read(gguf)[1]
                for module, values in meant.items():
                    here = interleave(values, heads[module[-6:]]) if module[-6:] in heads else values
                    kind, found = stored[gguf_name(module + ".weight")]
                    assert np.array_equal(found, here), f"{bits} bits {grid}: {module} as {kind}"
                    assert module not in returned or np.array_equal(returned[module], values), f"{bits} bits {grid}: {module} back"
                assert returned
                for card in (out / "README.md", back / "README.md", pathlib.Path(f"{gguf}.md")):
                    if card.parent == out:
                        check_card(card)
                    ModelCard.load(card)
                print(f"{bits} bits {grid}: {len(meant)} modules equal as {sorted({stored[gguf_name(m + '.weight')][0] for m in meant})}")


if __name__ == "__main__":
    main()
