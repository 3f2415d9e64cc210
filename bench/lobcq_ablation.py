#!/usr/bin/env python3
"""LO-BCQ's sizes against its error, as the tables of the paper have them: codebooks fitted for every layout to the same
sample of a model's weights and of its layers' inputs.

    bench/lobcq_ablation.py --model DIR --text FILE --out FOLDER [--block-array 128 64 32 16] [--block 8 4 2]
                            [--evaluate FILE --windows 8]

Errors are relative squared errors of rows, by rounding, on the arrays that the codebooks were fitted to (the sample is
some thousand times larger than they are): "maximum" with scales from the maximum alone, "searched" with the encoder's
search. Other blocks than 8 are tried at block arrays of 64 only. With --evaluate, also the perplexity of the model with weights
and activations rounded to each layout, scales of activations a token's own. Each fit's figures stand in FOLDER/*.json; fits whose
file is there are not repeated. The table (Markdown) is printed and written to FOLDER/lobcq_ablation.md.
"""
import argparse
import json
import math
import pathlib
import shutil
import subprocess



def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True, help="Hugging Face directory or GGUF file")
    parser.add_argument("--text", type=pathlib.Path, required=True, help="UTF-8 text that activations come from")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the results")
    parser.add_argument("--neap", default="build/release/cli/neap", help="the program (default: build/release/cli/neap)")
    parser.add_argument("--block-array", type=int, nargs="+", default=[128, 64, 32, 16])
    parser.add_argument("--block", type=int, nargs="+", default=[8, 4, 2])
    parser.add_argument("--num-codebooks", type=int, nargs="+", default=[2, 4, 8, 16])
    parser.add_argument("--evaluate", type=pathlib.Path, help="UTF-8 text to measure perplexity on")
    parser.add_argument("--windows", type=int, default=8, help="of that text, 2048 tokens each")
    parser.add_argument("--samples", type=int, default=2, help="windows of text")
    parser.add_argument("--reservoir", type=int, default=1 << 16, help="blocks of each kind")
    parser.add_argument("--starts", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def neap(arguments, *words):
    done = subprocess.run([arguments.neap, *map(str, words), "--threads", str(arguments.threads), "--json", "--quiet"],
                          stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def fit(arguments, array, block, count):
    """Fit and measure, or take the figures of an earlier run."""
    name = f"array{array}-block{block}-codebooks{count}"
    result, codebooks = arguments.out / f"{name}.json", arguments.out / f"{name}.codebooks.json"
    if not result.exists() or (arguments.evaluate and not codebooks.exists()):
        figures = neap(arguments, "codebooks", "fit", arguments.model, "--text", arguments.text, "--samples", arguments.samples,
                       "--block-array", array, "--block", block, "--num-codebooks", count, "--reservoir", arguments.reservoir,
                       "--starts", arguments.starts, "-o", codebooks)
        result.write_text(json.dumps(figures))
    figures = json.loads(result.read_text())
    if arguments.evaluate and "perplexity" not in figures:
        figures["perplexity"] = perplexity(arguments, codebooks)
        result.write_text(json.dumps(figures))
    return figures


def perplexity(arguments, codebooks):
    output = arguments.out / "model"
    shutil.rmtree(output, ignore_errors=True)
    neap(arguments, "quantize", arguments.model, "-o", output, "--scheme", "LOBCQ", "--method", "rtn", "--codebooks", codebooks)
    figures = neap(arguments, "eval", output, "--text", arguments.evaluate, "--windows", arguments.windows)
    shutil.rmtree(output)
    return figures["perplexity"]


def main():
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    layouts = [(array, 8) for array in arguments.block_array] + [(64, block) for block in arguments.block if block != 8]
    lines = ["| block array | block | codebooks | bits | weights, maximum | weights, searched | activations, maximum "
             "| activations, searched |" + (" perplexity |" if arguments.evaluate else ""), "|---|---|---|---|---|---|---|---|"
             + ("---|" if arguments.evaluate else "")]
    print("\n".join(lines), flush=True)
    for array, block in layouts:
        for count in arguments.num_codebooks:
            figures = fit(arguments, array, block, count)
            bits = 4 + math.log2(count) / block + 8 / array
            errors = [100 * figures[side][key] for side in ("weights", "activations") for key in ("maximum_error", "error")]
            cells = [array, block, count, f"{bits:g}", *(f"{error:.3f} %" for error in errors)]
            if arguments.evaluate:
                cells.append(f"{figures['perplexity']:.2f}")
            lines.append("| " + " | ".join(map(str, cells)) + " |")
            print(lines[-1], flush=True)
    (arguments.out / "lobcq_ablation.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
