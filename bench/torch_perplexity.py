#!/usr/bin/env python3
"""PyTorch's perplexity of Hugging Face model directories: the judge that Neap's own figures are checked against.

    bench/torch_perplexity.py MODEL... --text FILE [--reference DIR] [--json OUT]

The convention is that of the GPTQ papers: the text is tokenized as a whole, cut into windows of --seqlen tokens that do
not overlap, the remainder dropped; in each window every token but the first is predicted from those before it.
Perplexity is exp of the mean over all predictions. Two standard errors are given, because tokens of one window are not
independent: over tokens (as llama.cpp prints it) and over the windows' means (the honest one, if there are many).

With --reference (usually the full-precision model) also, over the same predictions: the Kullback-Leibler divergence
KL(reference || model) in nats, and how often both rank the same token first. The reference is scored too, as the last
model; give all models at once, for it runs once per window whatever their number.

A compressed-tensors directory is unpacked and run in float32, so that its arithmetic is that of the stored weights.
"""
import argparse
import hashlib
import json
import math
import time
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, CompressedTensorsConfig

CHUNK = 256  # predictions per step: log-softmax over the whole vocabulary is the largest buffer


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL", help="directory: float, or compressed-tensors")
    parser.add_argument("--text", type=Path, required=True, help="UTF-8 text to predict")
    parser.add_argument("--reference", type=Path, help="directory of the model to measure the divergence from")
    parser.add_argument("--tokenizer", type=Path, help="directory (default: REFERENCE, or else the last MODEL)")
    parser.add_argument("--seqlen", type=int, default=2048, help="tokens per window (default 2048)")
    parser.add_argument("--windows", type=int, help="score only the first so many windows (default: all)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: torch's choice")
    parser.add_argument("--json", type=Path, help="write all figures here, with each window's means and the hashes")
    return parser.parse_args()


def sha256(path):
    """Hash of a file; of a directory, of its weight files in order of name."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as stream:
            while block := stream.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()


def read_windows(text, tokenizer, seqlen):
    """All whole windows of a text (windows, seqlen), and how many tokens the text has."""
    tokens = tokenizer(text.read_text(encoding="utf-8"), verbose=False).input_ids
    count = len(tokens) // seqlen
    if not count:
        raise SystemExit(f"{text}: {len(tokens)} tokens are less than one window of {seqlen}")
    return torch.tensor(tokens[:count * seqlen]).view(count, seqlen), len(tokens)


def load(folder):
    config = AutoConfig.from_pretrained(folder)
    packed = {"quantization_config": CompressedTensorsConfig(run_compressed=False)} if hasattr(
        config, "quantization_config") else {}
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **packed).eval()


@torch.no_grad()
def predict(model, window):
    """Logits for tokens 1 to the last of a window, (seqlen - 1, vocabulary)."""
    return model(window[None], use_cache=False).logits[0, :-1]


def score_window(logits, reference, window):
    """Loss per prediction; with reference logits also divergence and same first choice. (seqlen - 1, 1 or 3)"""
    rows = []
    for start in range(0, len(logits), CHUNK):
        part = slice(start, start + CHUNK)
        log_p = logits[part].log_softmax(-1)
        columns = [-log_p.gather(1, window[1:][part, None])[:, 0]]
        if reference is not None:
            log_r = reference[part].log_softmax(-1)
            columns += [(log_r.exp() * (log_r - log_p)).sum(-1), (log_r.argmax(-1) == log_p.argmax(-1)).float()]
        rows.append(torch.stack(columns, -1))
    return torch.cat(rows).double()


def score(models, reference, windows):
    """Scores of every model, each (windows, predictions, 1 or 3); the reference runs once for all of them."""
    scores = [[] for _ in models]
    for index, window in enumerate(windows):
        expected = predict(reference, window) if reference else None
        for model, mine in zip(models, scores):
            logits = expected if model is reference else predict(model, window)
            mine.append(score_window(logits, expected, window))
        running = (math.exp(torch.stack(mine)[..., 0].mean()) for mine in scores)
        print(f"[{index + 1}/{len(windows)}] perplexity", *(f"{value:.4f}" for value in running), flush=True)
    return [torch.stack(mine) for mine in scores]


def mean_and_error(values):
    """Mean, and its standard error if there are at least two values."""
    return values.mean().item(), values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan


def summarize(scores):
    """Figures from all scores (windows, predictions, columns)."""
    loss, error = mean_and_error(scores[..., 0].flatten())
    perplexity = math.exp(loss)
    figures = {"perplexity": perplexity, "standard_error": perplexity * error,
               "standard_error_over_windows": perplexity * mean_and_error(scores[..., 0].mean(1))[1],
               "mean_nll": loss, "predictions": scores[..., 0].numel(), "windows": len(scores)}
    if scores.shape[-1] > 1:
        for name, column in (("kl", 1), ("same_top1", 2)):
            figures[name], figures[name + "_standard_error"] = mean_and_error(scores[..., column].flatten())
    return figures


def report(scores):
    """All figures of one model, for the JSON file."""
    figures = summarize(scores) | {"window_nll": scores[..., 0].mean(1).tolist()}
    if scores.shape[-1] > 1:
        figures["window_kl"] = scores[..., 1].mean(1).tolist()
    return figures


def main():
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    folders = arguments.models + ([arguments.reference] if arguments.reference else [])
    tokenizer = AutoTokenizer.from_pretrained(arguments.tokenizer or folders[-1])
    windows, tokens = read_windows(arguments.text, tokenizer, arguments.seqlen)
    models = [load(folder) for folder in folders]
    start = time.perf_counter()
    scores = score(models, models[-1] if arguments.reference else None, windows[:arguments.windows])
    for folder, values in zip(folders, scores):
        print(folder, *(f"  {key:28} {value:.6g}" for key, value in summarize(values).items()), sep="\n")
    if arguments.json:
        common = {"text_sha256": sha256(arguments.text), "text_tokens": tokens, "seqlen": arguments.seqlen,
                  "seconds": time.perf_counter() - start, "threads": arguments.threads, "torch": torch.__version__}
        each = [{"model": folder.name, "sha256": sha256(folder), **report(values)}
                for folder, values in zip(folders, scores)]
        arguments.json.write_text(json.dumps(common | {"models": each}, indent=1) + "\n")


if __name__ == "__main__":
    main()
