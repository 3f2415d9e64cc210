#!/usr/bin/env python3
"""GGUF files in llama.cpp's own hands: `neap quantize` against `llama-quantize --imatrix`, type by type.

    bench/gguf_quality.py --model DIR --f16 FILE.gguf --calib FILE --text FILE --llama FOLDER --out FOLDER [--types Q4_0 ...]

--f16 is --model as llama.cpp's convert_hf_to_gguf.py writes it. Both tools calibrate on the same tokens: the first --samples windows
of --seqlen tokens of --calib, as text for llama-imatrix (windows of --seqlen too). Types of embedding and head are those that
llama-quantize picks, for both. A type "ffn_down:Q2_K" is that of ffn_down alone, all other matrices being F16 in both files (for models whose
other rows are no whole super-blocks). Divergence and perplexity are those of llama-perplexity --kl-divergence, windows of 512, on the
first --chunks of --text, against --f16.

Each run's figures stand in FOLDER/*.json; runs whose file is there are not repeated. The table (Markdown) is printed and written
to FOLDER/gguf_quality.md.
"""
import argparse
import json
import pathlib
import re
import shutil
import subprocess
import time

from tokenizers import Tokenizer

FIGURES = {"kl": r"Mean +KLD: +([-0-9.]+)", "kl_error": r"Mean +KLD: +[-0-9.]+ ± +([0-9.]+)",
           "log_ppl_gap": r"Mean ln\(PPL\(Q\)/PPL\(base\)\) +: +([-0-9.]+)", "ppl": r"Mean PPL\(Q\) +: +([0-9.]+)",
           "same_top": r"Same top p: +([0-9.]+)"}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, what in (("model", "Hugging Face directory, off the grid"), ("f16", "the same as an F16 GGUF"),
                       ("calib", "UTF-8 text to calibrate on"), ("text", "UTF-8 text to evaluate on"),
                       ("llama", "folder of llama.cpp's programs"), ("out", "folder of the results")):
        parser.add_argument("--" + name, type=pathlib.Path, required=True, help=what)
    parser.add_argument("--neap", default="build/release/cli/neap", help="the program (default: build/release/cli/neap)")
    parser.add_argument("--types", nargs="+", default=["Q4_0", "Q4_1", "Q5_0", "IQ4_NL"])
    parser.add_argument("--samples", type=int, default=12, help="calibration windows")
    parser.add_argument("--seqlen", type=int, default=2048, help="tokens of a calibration window")
    parser.add_argument("--chunks", type=int, default=188, help="windows of 512 to evaluate on")
    parser.add_argument("--neap-options", nargs="*", default=[], help="further arguments of neap quantize, without dashes: refit=2")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def run(log, *arguments):
    start = time.monotonic()
    with open(log, "w") as file:
        subprocess.run([str(a) for a in arguments], stdout=file, stderr=subprocess.STDOUT, check=True)
    return time.monotonic() - start


def calibration(a):
    """The same tokens for both, as ids for Neap and as text for llama-imatrix."""
    ids = Tokenizer.from_file(str(a.model / "tokenizer.json")).encode(a.calib.read_text(encoding="utf8"), add_special_tokens=False).ids
    windows = [ids[i * a.seqlen:(i + 1) * a.seqlen] for i in range(a.samples)]
    assert len(windows[-1]) == a.seqlen, "too little text"
    lines, text = a.out / "calibration.jsonl", a.out / "calibration.txt"
    lines.write_text("".join(json.dumps({"ids": w}) + "\n" for w in windows))
    tokenizer = Tokenizer.from_file(str(a.model / "tokenizer.json"))
    text.write_text(tokenizer.decode(sum(windows, []), skip_special_tokens=False), encoding="utf8")
    return lines, text


def judge(a, name, make):
    """make(path of the model) -> seconds; figures of llama-perplexity."""
    result = a.out / f"{name}.json"
    if result.exists():
        return json.loads(result.read_text())
    model = a.out / f"{name}.gguf"
    seconds = make(model)
    base = a.out / "base.kld"
    if not base.exists():
        run(a.out / "base.log", a.llama / "llama-perplexity", "-m", a.f16, "-f", a.text, "-c", 512, "--chunks", a.chunks,
            "-t", a.threads, "--kl-divergence-base", base)
    log = a.out / f"{name}.kl.log"
    run(log, a.llama / "llama-perplexity", "-m", model, "-f", a.text, "-c", 512, "--chunks", a.chunks, "-t", a.threads,
        "--kl-divergence", "--kl-divergence-base", base)
    words = log.read_text()
    figures = {key: float(re.search(pattern, words)[1]) for key, pattern in FIGURES.items()}
    figures |= {"bytes": model.stat().st_size, "seconds": seconds}
    result.write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def main():
    a = parse_arguments()
    a.out.mkdir(parents=True, exist_ok=True)
    lines, text = calibration(a)
    imatrix = a.out / "imatrix.gguf"
    if not imatrix.exists():
        run(a.out / "imatrix.log", a.llama / "llama-imatrix", "-m", a.f16, "-f", text, "-o", imatrix, "-c", a.seqlen,
            "-t", a.threads, "--no-ppl")

    def theirs(kind):
        part, _, of = kind.rpartition(":")
        only = (f"--tensor-type {part}={of} --tensor-type attn=f16 --tensor-type ffn=f16 --token-embedding-type f16 --output-tensor-type f16"
                if part else "").split()
        return lambda path: run(a.out / f"llama-{kind}.log", a.llama / "llama-quantize", "--imatrix", imatrix, *only, a.f16, path, of, a.threads)

    def ours(kind):
        part, _, of = kind.rpartition(":")
        only = ["--pure", "--ignore", "re:.*(q|k|v|o|gate|up)_proj", "--ignore", "model.embed_tokens"] if part else []
        assert part in ("", "ffn_down")

        def make(path):
            folder = a.out / "neap-output"
            seconds = run(a.out / f"neap-{kind}.log", a.neap, "quantize", a.model, "-o", folder, "--overwrite", "--scheme",
                          f"GGUF:{of}", *only, "--allow-fallback", "--calib", lines, "--seqlen", a.seqlen, "--threads", a.threads,
                          *(f"--{o}" for o in a.neap_options))
            shutil.copyfile(next(folder.glob("*.gguf")), path)
            return seconds
        return make

    rows = ["| type | bytes, llama.cpp and Neap | KL of llama-quantize | KL of Neap | ratio | log-perplexity gap, both | same top token, both |",
            "| --- | --- | --- | --- | --- | --- | --- |"]
    for kind in a.types:
        them, us = judge(a, f"llama-{kind}", theirs(kind)), judge(a, f"neap-{kind}", ours(kind))
        rows.append(f"| {kind} | {them['bytes']:,}, {us['bytes']:,} | {them['kl']:.4f} ± {them['kl_error']:.4f} | {us['kl']:.4f} ± {us['kl_error']:.4f} | "
                    f"{us['kl'] / them['kl']:.2f} | {them['log_ppl_gap']:.4f}, {us['log_ppl_gap']:.4f} | {them['same_top']:.1f} %, {us['same_top']:.1f} % |")
    table = "\n".join(rows) + "\n"
    (a.out / "gguf_quality.md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
