#!/usr/bin/env python3
"""GPTQ files of Neap, loaded by transformers with GPTQModel, on the CPU: log-probabilities to 1e-4 of their range.

With 8 bits, and with zero points, 2e-3: GPTQModel multiplies scale and code less zero in fp16. It holds the products of Neap's
scales (8 significant bits) with symmetric codes of up to 4 bits exactly, and rounds longer ones.

    gptqmodel_peer.py --neap PROGRAM --models FOLDER [--python PROGRAM]

FOLDER holds smollm2-offgrid (tools/make_offgrid_model.py). GPTQModel wants other versions of PyTorch and transformers than the other
judges, so it may live in an environment of its own: --python, or $NEAP_GPTQMODEL_PYTHON, is the interpreter that has it
(pip install gptqmodel optimum). Without it the test is skipped (exit status 77).
"""
import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXT = ROOT / "docs/algorithms/lobcq.md"
SKIPPED = 77
ALLOWED, ALLOWED_ROUNDED = 1e-4, 2e-3
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # compiling every layer takes minutes
CASES = {"4 bits, version 1": ("gptq", "--bits", 4), "8 bits, version 1": ("gptq", "--bits", 8), "3 bits, version 1": ("gptq", "--bits", 3),
         "2 bits, version 1": ("gptq", "--bits", 2), "4 bits with zero points, version 2": ("gptq_v2", "--bits", 4, "--asym")}


def theirs(folder, ids):
    """(predictions, vocabulary): log-probabilities of the second halves of windows."""
    import torch
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, device_map="cpu").eval()
    kinds = {type(m).__name__ for m in model.modules() if hasattr(m, "qweight")}
    assert kinds, "no quantized layer"
    with torch.no_grad():
        logits = torch.cat([model(torch.tensor(window)[None].long()).logits[0, len(window) // 2:-1].float() for window in ids])
    return torch.log_softmax(logits, -1).numpy(), kinds


def compare(neap, models):
    import warnings
    warnings.filterwarnings("ignore")
    from logit_file import largest_difference, read_logits
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        for name, (form, *options) in CASES.items():
            folder, path = f"{scratch}/{name}", f"{scratch}/logits"
            for command in (("quantize", models / "smollm2-offgrid", "-o", folder, "--method", "rtn", "--group-size", 64, "--format", form, *options),
                            ("eval", folder, "--text", TEXT, "--ppl-mode", "llamacpp", "--window", 256, "--windows", 2, "--precision", "f32",
                             "--simulate", "--save-logits", path)):
                subprocess.run([str(a) for a in (neap, *command, "--quiet")], check=True, stdout=subprocess.DEVNULL)
            ours = read_logits(path)
            found, kinds = theirs(folder, ours.ids)
            difference = largest_difference(ours.log_probabilities, found)
            allowed = ALLOWED_ROUNDED if 8 in options or "--asym" in options else ALLOWED
            wrong += difference > allowed
            print(f"{'equal' if difference <= allowed else 'WRONG'}  {name:36} {', '.join(kinds):20} log-probabilities differ by {difference:.1e} of their range", flush=True)
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neap", required=True)
    parser.add_argument("--models", required=True, type=pathlib.Path)
    parser.add_argument("--python", default=os.environ.get("NEAP_GPTQMODEL_PYTHON", sys.executable))
    arguments = parser.parse_args()
    if arguments.python != sys.executable:
        os.execv(arguments.python, [arguments.python, *sys.argv, "--python", arguments.python])
    try:
        import gptqmodel  # noqa: F401
        import optimum  # noqa: F401
    except ImportError:
        print("GPTQModel is not installed (NEAP_GPTQMODEL_PYTHON)")
        return SKIPPED
    return compare(arguments.neap, arguments.models)


if __name__ == "__main__":
    sys.exit(main())
