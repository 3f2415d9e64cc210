#!/usr/bin/env python3
"""Four bits for weights and activations: LO-BCQ and its rivals on equal terms.

    pip install tokenizers
    bench/lobcq.py --model DIR --calib FILE --text FILE --out FOLDER

Same model, same calibration tokens, one evaluator. Calibration windows are bench/quality.py's first draw. Each row is a model
quantized in one way and measured three times: its weights alone (activations in 16 bits), its activations alone (in the row's
format, on weights in 16 bits), and both. Rows that balance the model first (docs/algorithms/lobcq.md) show their
activations alone on the balanced model with weights of 8 bits, which is what can be written of it.
"gap" is log(perplexity / full precision's).

Each figure's report stands in FOLDER/*.json; what is there is not repeated. The table (Markdown) is printed and
written to FOLDER/lobcq.md.
"""
import argparse
import json
import math
import shutil

import quality
from tables import print_table

ROWS = {  # options of `neap quantize`, format of activations alone, whether the model is balanced for that, options of `neap eval`
    "INT4, groups of 64, rounding": (["--scheme", "INT4", "--method", "rtn"], "int4", False),
    "MXFP4, rounding": (["--scheme", "MXFP4", "--method", "rtn"], "mxfp4", False),
    "NVFP4, rounding": (["--scheme", "NVFP4", "--method", "rtn"], "nvfp4", False),
    "NVFP4, lattice decoding": (["--scheme", "NVFP4", "--no-balance"], "nvfp4", False),
    "NVFP4, + balancing": (["--scheme", "NVFP4"], "nvfp4", True),
    "LO-BCQ as published": (["--scheme", "LOBCQ", "--method", "rtn", "--scales", "maximum"], "lobcq", False),
    "LO-BCQ, rounding": (["--scheme", "LOBCQ", "--method", "rtn"], "lobcq", False),
    "LO-BCQ, rounding, balancing": (["--scheme", "LOBCQ", "--method", "rtn", "--balance"], "lobcq", True),
    "LO-BCQ, lattice decoding": (["--scheme", "LOBCQ", "--no-balance"], "lobcq", False),
    "LO-BCQ, + balancing (the default)": (["--scheme", "LOBCQ"], "lobcq", True),
    "LO-BCQ, + searched scales": (["--scheme", "LOBCQ"], "lobcq", True, "--activation-scales", "search"),
}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    quality.add_inputs(parser)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS), metavar="ROW",
                        help="of: " + "; ".join(ROWS))
    arguments = parser.parse_args()
    arguments.draws = 1
    return arguments


def cached(arguments, name, work):
    path = arguments.out / ("".join(c if c.isalnum() else "-" for c in name) + ".json")
    if not path.exists():
        path.write_text(json.dumps(work(), indent=1))
    return json.loads(path.read_text())


def quantize(arguments, *options):
    output = arguments.out / "model"
    shutil.rmtree(output, ignore_errors=True)
    report = quality.neap(arguments, "quantize", arguments.model, "-o", output, *options,
                          "--calib", arguments.out / "draw0.jsonl")
    return output, report


def evaluate(arguments, model, *options):
    limit = ["--windows", arguments.windows] if arguments.windows else []
    return quality.neap(arguments, "eval", model, "--reference", arguments.model, "--text", arguments.text, *limit, *options)


def measure_row(arguments, options, encoding):
    output, report = quantize(arguments, *options)
    return {"report": report, "weights": evaluate(arguments, output, "--activations", "keep"),
            "both": evaluate(arguments, output, *encoding)}


def measure_activations(arguments, form, balanced, encoding):
    model = arguments.model
    if balanced:
        model, _ = quantize(arguments, "--bits", "8", "--method", "rtn", "--balance")
    return evaluate(arguments, model, "--activations", form, *encoding)


def row_cells(arguments, row):
    options, form, balanced, *encoding = ROWS[row]
    figures = cached(arguments, row, lambda: measure_row(arguments, options, encoding))
    name = f"activations {form}" + (" balanced" if balanced else "") + (" searched" if encoding else "")
    figures["activations"] = cached(arguments, name, lambda: measure_activations(arguments, form, balanced, encoding))
    cells = [f"{figures['report']['bits_per_weight']['quantized_layers']:.2f}"]
    for part in ("weights", "activations", "both"):
        perplexity, full = figures[part]["perplexity"], figures[part]["reference_perplexity"]
        cells += [f"{perplexity:.2f}", f"{math.log(perplexity / full):.3f}"]
    return [row, *cells, f"{figures['both']['kl']['mean']:.3f}", f"{figures['report']['seconds']:.0f} s"], full


def main():
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    quality.write_draws(arguments)
    print_table(["", "bits", "weights alone", "gap", "activations alone", "gap", "both", "gap", "KL (nats)", "time"],
                (row_cells(arguments, row) for row in arguments.rows), arguments.out / "lobcq.md")


if __name__ == "__main__":
    main()
