#!/usr/bin/env python3
"""Files for other engines, Neap's against those of the tools that people have: one table.

    bench/rivals.py --model DIR --calib FILE --text FILE --out FOLDER [--draws 3] [--cases NAME ...]

Integer grids (compressed-tensors and GPTQ hold the same numbers): llm-compressor's GPTQ (bench/llm_compressor_gptq.py, `actorder:
static`, mse observer), in this interpreter's environment. NVFP4 weights: rounding to nearest, which is all that the usual tools do
(`neap quantize --method rtn`, number for number that of compressed-tensors: tests/peers/block_scaled_peer.py).

Same model, same calibration tokens (the draws of bench/quality.py), same layers, same bits, one evaluator (`neap eval`). "gap" is
log(perplexity / full precision's), the mean over the draws. Groups of 128 do not divide SmolLM2's 576 inputs, and neither tool
takes groups that do not: down_proj (1536) has groups of 128 there, the other layers groups of 64.

Each run's figures stand in FOLDER/*.json; what is there is not repeated. The table (Markdown) is printed and written to
FOLDER/rivals.md.
"""
import argparse
import json
import math
import pathlib
import shutil
import subprocess
import sys

import quality
from tables import print_table

GPTQ = "llm-compressor GPTQ"
CASES = {  # options of `neap quantize`, the rival, its options
    "3 bits, groups of 64": (["--bits", "3", "--group-size", "64", "--asym"], GPTQ, ["--bits", "3", "--group-size", "64"]),
    "4 bits, groups of 64": (["--bits", "4", "--group-size", "64", "--asym"], GPTQ, ["--bits", "4", "--group-size", "64"]),
    "4 bits, groups of 128 where they divide": (["--bits", "4", "--group-size", "64", "--asym", "--override", "re:.*down_proj=group:128"],
                                                GPTQ, ["--bits", "4", "--group-size", "128", "--other-group-size", "64"]),
    "NVFP4 weights": (["--scheme", "NVFP4A16"], "rounding", ["--scheme", "NVFP4A16", "--method", "rtn"]),
}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    quality.add_inputs(parser)
    parser.add_argument("--draws", type=int, default=quality.DRAWS, choices=range(1, quality.DRAWS + 1), help="calibration draws")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES), metavar="CASE", help="of: " + "; ".join(CASES))
    return parser.parse_args()


def cached(arguments, name, make):
    """make(folder of the model) -> seconds, bits per weight if known; with the figures of `neap eval`."""
    path = arguments.out / ("".join(c if c.isalnum() else "-" for c in name) + ".json")
    if not path.exists():
        model = arguments.out / "model"
        shutil.rmtree(model, ignore_errors=True)
        figures = make(model) | {"eval": quality.evaluate(arguments, model)}
        shutil.rmtree(model)
        path.write_text(json.dumps(figures, indent=1))
    return json.loads(path.read_text())


def with_neap(arguments, options, draw):
    calibration = [] if "rtn" in options else ["--calib", arguments.out / f"draw{draw}.jsonl"]

    def make(model):
        report = quality.neap(arguments, "quantize", arguments.model, "-o", model, *options, *calibration)
        return {"seconds": report["seconds"], "bits": report["bits_per_weight"]["quantized_layers"]}
    return make


def with_llm_compressor(arguments, options, draw):
    def make(model):
        subprocess.run([sys.executable, pathlib.Path(__file__).parent / "llm_compressor_gptq.py", "--model", arguments.model, "--calib",
                        arguments.calib, "--out", model, "--draw", str(draw), "--samples", str(arguments.samples), "--seqlen",
                        str(arguments.seqlen), "--threads", str(arguments.threads), *options], check=True, stdout=subprocess.DEVNULL)
        return {"seconds": json.loads((model / "quantization.json").read_text())["seconds"]}
    return make


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def gap(runs):
    return mean(math.log(r["eval"]["perplexity"] / r["eval"]["reference_perplexity"]) for r in runs)


def row(arguments, case):
    options, rival, rival_options = CASES[case]
    other = with_llm_compressor if rival == GPTQ else with_neap
    rival_draws = range(arguments.draws if rival == GPTQ else 1)
    theirs = [cached(arguments, f"{case} {rival} {d}", other(arguments, rival_options, d)) for d in rival_draws]
    ours = [cached(arguments, f"{case} Neap {d}", with_neap(arguments, options, d)) for d in range(arguments.draws)]
    perplexities = [", ".join(f"{r['eval']['perplexity']:.2f}" for r in runs) for runs in (theirs, ours)]
    kl = [mean(r["eval"]["kl"]["mean"] for r in runs) for runs in (theirs, ours)]
    return [case, f"{ours[0]['bits']:.2f}", f"{rival}: {perplexities[0]}", perplexities[1], f"{gap(theirs):.3f}, {gap(ours):.3f}",
            f"{gap(ours) / gap(theirs):.2f}", f"{kl[0]:.3f}, {kl[1]:.3f}"], ours[0]["eval"]["reference_perplexity"]


def main():
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    quality.write_draws(arguments)
    print_table(["grid", "bits per weight", "perplexity", "Neap", "gap, both", "ratio", "KL (nats), both"],
                (row(arguments, case) for case in arguments.cases), arguments.out / "rivals.md")


if __name__ == "__main__":
    main()
