#!/usr/bin/env python3
"""Neap's evaluator against PyTorch's figures for the same models and text, live: perplexity, KL, same first choice.

    compare_evaluation.py --neap PROGRAM --models FOLDER

FOLDER holds smollm2-offgrid (tools/make_offgrid_model.py). It is compared with itself after `neap quantize --method
rtn` at 3 bits, so that reading a packed model is judged too. The text is DESIGN.md.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXT = ROOT / "DESIGN.md"
WINDOW = 512


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neap", required=True)
    parser.add_argument("--models", required=True, type=pathlib.Path)
    arguments = parser.parse_args()
    reference = arguments.models / "smollm2-offgrid"
    with tempfile.TemporaryDirectory() as folder:
        model, figures = pathlib.Path(folder, "rtn"), pathlib.Path(folder, "torch.json")
        subprocess.run([arguments.neap, "quantize", reference, "-o", model, "--method", "rtn", "--bits", "3",
                        "--group-size", "64", "--asym", "--quiet"], check=True)
        subprocess.run([sys.executable, ROOT / "bench/torch_perplexity.py", model, "--reference", reference, "--text", TEXT,
                        "--seqlen", str(WINDOW), "--json", figures], check=True)
        found = json.loads(subprocess.run([arguments.neap, "eval", model, "--reference", reference, "--text", TEXT,
                                           "--window", str(WINDOW), "--precision", "f32", "--json"], check=True,
                                          capture_output=True).stdout)
        torch_model, torch_reference = json.loads(figures.read_text())["models"]
    failures = 0
    for name, ours, theirs, tolerance in (
            ("perplexity", found["perplexity"], torch_model["perplexity"], 1e-4),
            ("its error", found["perplexity_error"], torch_model["standard_error"], 1e-3),
            ("reference's", found["reference_perplexity"], torch_reference["perplexity"], 1e-4),
            ("KL", found["kl"]["mean"], torch_model["kl"], 1e-4),
            ("its error", found["kl"]["error"], torch_model["kl_standard_error"], 1e-3),
            ("same first choice", found["same_top"]["mean"], torch_model["same_top1"], 2 / found["predicted_tokens"])):
        difference = abs(ours - theirs) / theirs
        failures += difference > tolerance
        print(f"{name:18} Neap {ours:.7g}  PyTorch {theirs:.7g}  relative difference {difference:.1e} (allowed {tolerance:.1e})")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
