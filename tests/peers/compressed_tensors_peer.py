#!/usr/bin/env python3
"""What Neap exports, read by transformers with compressed-tensors: weights bit for bit, logits to 1e-4.

    compressed_tensors_peer.py [--tool build/dev/tests/export/export_random] [--only NAME]

Every small golden model (Hugging Face directory and GGUF) is exported with random codes, in every number of bits and
every kind of layout between them; each is loaded as float32, and its decompressed weights must be the floats that Neap
means. $NEAP_TEST_MODELS/smollm2.gguf, where it is there, is exported too, with its tokenizer.
"""
import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import warnings

os.environ.setdefault("TQDM_DISABLE", "1")  # compressed-tensors draws bars of its own

import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, logging  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden"

# model, then what export_random is told: bits, group, symmetric, type of the scales, extras
CASES = [
    ("models/llama1", "2 12 sym F16"),
    ("models/llama2", "3 4 asym F32"),
    ("models/llama31", "3 12 asym BF16"),
    ("models/llama-bias", "4 0 asym F16"),
    ("models/llama-linear", "5 12 sym BF16"),
    ("models/mistral", "6 0 asym BF16"),
    ("models/qwen2", "7 4 asym BF16"),
    ("models/qwen2", "3 0 asym BF16 head"),
    ("models/qwen2-sliding", "8 12 asym BF16"),
    ("models/qwen3-sharded", "3 4 sym BF16 mixed"),
    ("models/smollm2", "4 12 asym BF16 mixed head"),
    ("models/smollm3", "1 4 sym BF16"),
    ("gguf/llama2.gguf", "3 4 asym F16"),
    ("gguf/llama-bias.gguf", "4 0 sym F16 mixed"),
    ("gguf/llama-linear.gguf", "3 12 asym F16"),
    ("gguf/qwen2.gguf", "4 12 asym F16"),
    ("gguf/qwen3.gguf", "3 4 asym F16"),
    ("gguf/smollm2.gguf", "3 4 asym F16 head"),
    ("gguf/smollm3.gguf", "8 4 sym F16"),
]


def differences(folder):
    """What is wrong with the export in `folder`, as sentences; at the end the relative error of the logits."""
    expected = load_file(f"{folder}.expected/model.safetensors")
    tokens, logits = expected.pop("tokens").long(), expected.pop("logits")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        found = model(tokens[None]).logits[0]  # the first forward pass decompresses
    weights = dict(model.named_parameters())
    for module, weight in expected.items():
        if not torch.equal(weights[f"{module}.weight"], weight):
            yield f"{module}: other weights"
    error = ((found - logits).abs().max() / logits.abs().max()).item()
    yield error


def tokenizer_trouble(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "Hello 2026, Grüße! 🦊\n\n  def f(x):\n\treturn x**2<|im_end|>"
    ids = tokenizer.encode(text)
    if tokenizer.decode(ids) != text:
        yield "the tokenizer does not give its text back"
    if [ids[-1]] != tokenizer.encode("<|im_end|>") or tokenizer.eos_token != "<|im_end|>":
        yield "<|im_end|> is not one token, or not the end token"
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    if not chat.endswith("<|im_start|>user\nHi<|im_end|>\n"):
        yield f"the chat template gives {chat!r}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    build = pathlib.Path(os.environ.get("NEAP_BUILD", ROOT / "build/dev"))
    parser.add_argument("--tool", default=build / "tests/export/export_random", type=pathlib.Path)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore")

    cases = [(GOLDEN / model, arguments) for model, arguments in CASES]
    real = pathlib.Path(os.environ.get("NEAP_TEST_MODELS", "/nowhere")) / "smollm2.gguf"
    if real.exists():
        cases.append((real, "3 64 asym F16"))
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        for number, (model, arguments) in enumerate(cases):
            if options.only not in str(model):
                continue
            folder = f"{scratch}/{number}"
            subprocess.run([options.tool, model, folder, *arguments.split()], check=True, stdout=subprocess.DEVNULL)
            *trouble, error = differences(folder)
            if error > 1e-4:
                trouble.append("other logits")
            if model == real:
                trouble += tokenizer_trouble(folder)
            wrong += bool(trouble)
            print(f"{'WRONG' if trouble else 'equal'}  {model.name:24} {arguments:28} logits {error:.1e}", *trouble[:3], sep="  ")
    print(f"{wrong} of {len(cases)} exports are read otherwise than meant" if wrong else "transformers reads every export as meant")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
