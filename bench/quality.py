#!/usr/bin/env python3
"""Every method on equal terms: same model, same calibration tokens, same grid, one evaluator.

    pip install tokenizers
    bench/quality.py --model DIR --calib FILE --text FILE [--bits 3 4] [--group-size 64 -1] [--draws 3] --out FOLDER

Calibration windows are drawn as bench/llm_compressor_gptq.py draws them: the text is tokenized whole, cut into windows of
--seqlen tokens, and draw d takes the windows whose index i has i mod 3 = d, the first --samples of them. Perplexity and
KL divergence from the full-precision model are those of `neap eval` on all of --text. "gap" is log(perplexity / full
precision's), the mean over the draws, +/- half of the spread between them.

Each run's figures stand in FOLDER/*.json; runs whose file is there are not repeated. The table (Markdown) is printed and
written to FOLDER/quality.md.
"""
import argparse
import hashlib
import json
import math
import pathlib
import shutil
import subprocess

DRAWS = 3
PUBLISHED_DAMPING = ["--ridge", "0.01"]
SINGLE = ["--refit", "0"]
RIDGE = ["--ridge", "0.05", *SINGLE]  # the best of those rows
PAPER = ["--target", "layer", *RIDGE]
METHODS = {
    "rounding": ["--method", "rtn"],
    "AWQ": ["--method", "awq"],
    "GPTQ": ["--method", "gptq", *PUBLISHED_DAMPING],
    "GPTAQ": ["--method", "gptaq", *PUBLISHED_DAMPING],
    "exact mu = 0": [*PAPER, "--target-mix", "0", "--paths", "0", "--descent", "0"],
    "Babai": [*PAPER, "--paths", "0", "--descent", "0"],
    "+ Klein (K = 5)": [*PAPER, "--descent", "0"],
    "+ descent": PAPER,
    "+ residual target": ["--target", "residual", *RIDGE],
    "+ relative errors": SINGLE,
    "+ refit": [],
}


def add_inputs(parser):
    """What every comparison takes: model, texts, where to and how much of it."""
    parser.add_argument("--model", type=pathlib.Path, required=True, help="Hugging Face directory, off the grid")
    parser.add_argument("--calib", type=pathlib.Path, required=True, help="UTF-8 text to calibrate on")
    parser.add_argument("--text", type=pathlib.Path, required=True, help="UTF-8 text to evaluate on")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the results")
    parser.add_argument("--neap", default="build/release/cli/neap", help="the program (default: build/release/cli/neap)")
    parser.add_argument("--samples", type=int, default=12, help="calibration windows of a draw")
    parser.add_argument("--seqlen", type=int, default=2048, help="tokens of a calibration window")
    parser.add_argument("--windows", type=int, help="evaluate on the first so many windows only")
    parser.add_argument("--threads", type=int, default=2)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_inputs(parser)
    parser.add_argument("--bits", type=int, nargs="+", default=[3, 4])
    parser.add_argument("--group-size", type=int, nargs="+", default=[64, -1], help="-1: whole rows")
    parser.add_argument("--draws", type=int, default=DRAWS, choices=range(1, DRAWS + 1), help="calibration draws")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="METHOD",
                        help="of: " + ", ".join(METHODS))
    return parser.parse_args()


def describe(path, tokens):
    print(f"{path}: sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}, {tokens} tokens")


def write_draws(arguments):
    """FOLDER/draw0.jsonl ..: one window of token ids a line."""
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(arguments.model / "tokenizer.json"))
    ids = tokenizer.encode(arguments.calib.read_text(encoding="utf-8")).ids
    describe(arguments.calib, len(ids))
    describe(arguments.text, len(tokenizer.encode(arguments.text.read_text(encoding="utf-8")).ids))
    count, length = len(ids) // arguments.seqlen, arguments.seqlen
    for draw in range(arguments.draws):
        chosen = range(draw, count, DRAWS)[:arguments.samples]
        if len(chosen) < arguments.samples:
            raise SystemExit(f"{arguments.calib}: draw {draw} has {len(chosen)} windows of {length} tokens, "
                             f"{arguments.samples} are wanted")
        lines = [json.dumps({"ids": ids[i * length:(i + 1) * length]}) for i in chosen]
        (arguments.out / f"draw{draw}.jsonl").write_text("\n".join(lines) + "\n")


def neap(arguments, *words):
    done = subprocess.run([arguments.neap, *map(str, words), "--threads", str(arguments.threads), "--json", "--quiet"],
                          stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def evaluate(arguments, model):
    limit = ["--windows", arguments.windows] if arguments.windows else []
    return neap(arguments, "eval", model, "--reference", arguments.model, "--text", arguments.text, *limit)


def run(arguments, method, bits, group, draw):
    """Quantize and evaluate, or take the figures of an earlier run."""
    slug = "".join(c if c.isalnum() else "-" for c in method).strip("-")
    result = arguments.out / f"w{bits}-g{group}-{slug}-{draw}.json"
    if not result.exists():
        output = arguments.out / "model"
        shutil.rmtree(output, ignore_errors=True)
        calibration = [] if method == "rounding" else ["--calib", arguments.out / f"draw{draw}.jsonl"]
        report = neap(arguments, "quantize", "--no-verify", arguments.model, "-o", output, "--bits", bits, "--group-size", group, "--asym",
                      *METHODS[method], *calibration)
        figures = evaluate(arguments, output)
        shutil.rmtree(output)
        result.write_text(json.dumps({"method": method, "bits": bits, "group_size": group, "draw": draw,
                                      "quantize": report, "eval": figures}, indent=1))
    return json.loads(result.read_text())


def row(runs):
    evaluations = [r["eval"] for r in runs]
    gaps = [math.log(e["perplexity"] / e["reference_perplexity"]) for e in evaluations]
    mean = lambda values: sum(values) / len(values)
    spread = f" +/- {(max(gaps) - min(gaps)) / 2:.3f}" if len(gaps) > 1 else ""
    return [f"{runs[0]['quantize']['bits_per_weight']['quantized_layers']:.2f}",
            f"{math.exp(mean([math.log(e['perplexity']) for e in evaluations])):.2f}", f"{mean(gaps):.3f}{spread}",
            f"{mean([e['kl']['mean'] for e in evaluations]):.3f}",
            f"{100 * mean([e['same_top']['mean'] for e in evaluations]):.1f} %",
            f"{mean([r['quantize']['seconds'] for r in runs]):.0f} s"]


def main():
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_draws(arguments)
    lines = ["| bits | group | method | bits per weight | perplexity | gap | KL (nats) | same top-1 | time |",
             "|---|---|---|---|---|---|---|---|---|"]
    print("\n".join(lines), flush=True)
    for bits in arguments.bits:
        for group in arguments.group_size:
            for method in arguments.methods:
                draws = range(1 if method == "rounding" else arguments.draws)
                cells = row([run(arguments, method, bits, group, draw) for draw in draws])
                name = "row" if group == -1 else str(group)
                lines.append("| " + " | ".join([str(bits), name, method, *cells]) + " |")
                print(lines[-1], flush=True)
    (arguments.out / "quality.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
