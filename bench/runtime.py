#!/usr/bin/env python3
"""Speed of Neap's packed models beside llama.cpp's: same machine, same minutes, same threads.

    bench/runtime.py --model DIR --out FOLDER [--llama-bench PATH --gguf Q4_0.gguf [...]] [--threads 1 2] [--rounds 5]

Files of llama.cpp are run by Neap too. Each round runs every contestant once, one after another (a prompt of --prompt tokens, --generate tokens one by one, --runs
times each), so that what else goes on in the machine meets all of them. The table has medians over all runs of all rounds,
the best run, the ratio of the medians to those of the first GGUF file (of the first contestant, if there is none), and the
share of this machine's limits as `neap bench` measures them in each round: memory read for generation, products for the
prompt. Ratios of the best runs stand beside them: on a machine that is not idle they say what the programs can do, the
medians what they did.

Models are quantized by rounding (speed does not depend on values) into FOLDER unless they are there. Times stand in
FOLDER/runtime.json; the table (Markdown) is printed and written to FOLDER/runtime.md. Both are written after every round.
"""
import argparse
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess


@dataclasses.dataclass
class Contestant:
    name: str
    model: pathlib.Path
    options: list = dataclasses.field(default_factory=list)
    peer: bool = False


GRIDS = {
    "lobcq": ["--scheme", "LOBCQ"],
    "w4g32": ["--bits", "4", "--group-size", "32"],
    "w4g64": ["--bits", "4", "--group-size", "64"],
    "w3g64": ["--bits", "3", "--group-size", "64"],
    "w2g64": ["--bits", "2", "--group-size", "64"],
}
INT8 = ["--int8", "--head", "int8"]
OURS = {
    "LO-BCQ W4A4": ("lobcq", []),
    "LO-BCQ W4A4, int8 head": ("lobcq", ["--head", "int8"]),
    "LO-BCQ W4A4, LO-BCQ head": ("lobcq", ["--head", "lobcq"]),
    "4 bits, groups of 64, bf16 activations, int8 head": ("w4g64", ["--head", "int8"]),
    "4 bits, groups of 32, int8": ("w4g32", INT8),
    "4 bits, groups of 64, int8": ("w4g64", INT8),
    "3 bits, groups of 64, int8": ("w3g64", INT8),
    "2 bits, groups of 64, int8": ("w2g64", INT8),
}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True, help="what is quantized")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of models and results")
    parser.add_argument("--neap", default="build/release/cli/neap", help="the program (default: build/release/cli/neap)")
    parser.add_argument("--llama-bench", help="llama.cpp's llama-bench")
    parser.add_argument("--gguf", type=pathlib.Path, nargs="*", default=[], help="models for it")
    parser.add_argument("--only", nargs="+", choices=list(OURS), metavar="NAME", default=list(OURS),
                        help="of: " + "; ".join(OURS))
    parser.add_argument("--threads", type=int, nargs="+", default=[2])
    parser.add_argument("--cpus", help="for taskset, such as 2,3")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=3, help="in each round")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--generate", type=int, default=128)
    return parser.parse_args()


def make_models(args):
    for name in {OURS[only][0] for only in args.only}:
        if not (args.out / name / "config.json").exists():
            subprocess.run([args.neap, "quantize", args.model, "-o", args.out / name, "--method", "rtn", "-q", *GRIDS[name]],
                           check=True)


def contestants(args):
    found = []
    if args.llama_bench:
        found = [Contestant("llama.cpp " + path.stem, path, peer=True) for path in args.gguf]
        found += [Contestant(f"{path.stem}, the same file, int8", path, INT8) for path in args.gguf]
    return found + [Contestant(name, args.out / OURS[name][0], OURS[name][1]) for name in args.only]


def run(args, contestant, threads):
    """What one call of either program reports, by its JSON: they share their names."""
    pinned = ["taskset", "-c", args.cpus] if args.cpus else []
    sizes = ["-t", threads, "-p", args.prompt, "-n", args.generate, "-r", args.runs]
    if contestant.peer:
        command = [args.llama_bench, "-m", contestant.model, *sizes, "-o", "json"]
    else:
        command = [args.neap, "bench", contestant.model, *sizes, *contestant.options, "--json", "-q"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    environment.pop("OMP_WAIT_POLICY", None)
    done = subprocess.run([str(part) for part in pinned + command], check=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, env=environment)
    return json.loads(done.stdout)


class Result:
    """All runs of one contestant at one number of threads."""

    def __init__(self):
        self.speeds = {"prompt": [], "generation": []}
        self.shares = {"prompt": [], "generation": []}

    def add(self, report):
        for test in report:
            kind = "generation" if test["n_gen"] > 0 else "prompt"
            self.speeds[kind] += test["samples_ts"]
            share = "read_share" if kind == "generation" else "product_share"
            if share in test:
                self.shares[kind].append(test[share])


def table(results, names, threads):
    lines = [f"{threads} threads, tokens/s" if threads > 1 else "1 thread, tokens/s", "",
             "| | prompt: median | best | ratio (best) | of the products | generation: median | best | ratio (best) | of memory |",
             "|---|---|---|---|---|---|---|---|---|"]
    for name in names:
        cells = [name]
        for kind in ("prompt", "generation"):
            speeds, base = results[name].speeds[kind], results[names[0]].speeds[kind]
            ratio = statistics.median(speeds) / statistics.median(base)
            shares = results[name].shares[kind]
            cells += [f"{statistics.median(speeds):.0f}", f"{max(speeds):.0f}",
                      f"{ratio:.2f} ({max(speeds) / max(base):.2f})",
                      f"{100 * statistics.median(shares):.0f} %" if shares else ""]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write(folder, record):
    plain = {threads: {name: vars(result) for name, result in results.items()} for threads, results in record.items()}
    (folder / "runtime.json").write_text(json.dumps(plain, indent=2) + "\n", encoding="utf8")
    tables = [table(results, list(results), threads) for threads, results in record.items()]
    (folder / "runtime.md").write_text("\n\n".join(tables) + "\n", encoding="utf8")


def main():
    args = parse_arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    make_models(args)
    entered = contestants(args)
    record = {threads: {contestant.name: Result() for contestant in entered} for threads in args.threads}
    for number in range(args.rounds):
        for threads, results in record.items():
            for contestant in entered:
                results[contestant.name].add(run(args, contestant, threads))
        write(args.out, record)
        print(f"round {number + 1} of {args.rounds}", flush=True)
    print((args.out / "runtime.md").read_text(encoding="utf8"))


if __name__ == "__main__":
    main()
