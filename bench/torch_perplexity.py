#!/usr/bin/env python3
"""PyTorch's perplexity of a Hugging Face model directory: the judge that Neap's own figures are checked against.

    bench/torch_perplexity.py MODEL --text FILE [--reference DIR] [--json OUT]

The convention is that of the GPTQ papers: the text is tokenized as a whole, cut into windows of --seqlen tokens that do
not overlap, the remainder dropped; in each window every token but the first is predicted from those before it.
Perplexity is exp of the mean over all predictions. Two standard errors are given, because tokens of one window are not
independent: over tokens (as llama.cpp prints it) and over the windows' means (the honest one, if there are many).

With --reference (usually the full-precision model) also, over the same predictions: the Kullback-Leibler divergence
KL(reference || model) in nats, and how often both rank the same token first.

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
    parser.add_argument("model", type=Path, help="directory: float, or compressed-tensors")
    parser.add_argument("--text", type=Path, required=True, help="UTF-8 text to predict")
    parser.add_argument("--reference", type=Path, help="directory of the model to measure the divergence from")
    parser.add_argument("--tokenizer", type=Path, help="directory of the tokenizer (default: MODEL)")
    parser.add_argument("--seqlen", type=int, default=2048, help="tokens per window (default 2048)")
    parser.add_argument("--windows", type=int, help="score only the first so many windows (default: all)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: torch's choice")
    parser.add_argument("--json", type=Path, help="write all figures here, with each window's mean and the hashes")
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
def score_window(model, reference, window):
    """Loss per prediction; with a reference also divergence and whether the first choices agree. (seqlen - 1, 1 or 3)"""
    logits = model(window[None], use_cache=False).logits[0, :-1]
    other = reference(window[None], use_cache=False).logits[0, :-1] if reference else None
    rows = []
    for start in range(0, len(logits), CHUNK):
        part = slice(start, start + CHUNK)
        log_p = logits[part].log_softmax(-1)
        columns = [-log_p.gather(1, window[1:][part, None])[:, 0]]
        if reference:
            log_r = other[part].log_softmax(-1)
            columns += [(log_r.exp() * (log_r - log_p)).sum(-1), (log_r.argmax(-1) == log_p.argmax(-1)).float()]
        rows.append(torch.stack(columns, -1))
    return torch.cat(rows).double()


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


def main():
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    tokenizer = AutoTokenizer.from_pretrained(arguments.tokenizer or arguments.model)
    windows, tokens = read_windows(arguments.text, tokenizer, arguments.seqlen)
    model, reference = load(arguments.model), load(arguments.reference) if arguments.reference else None
    start, scores = time.perf_counter(), []
    for window in windows[:arguments.windows]:
        scores.append(score_window(model, reference, window))
        running = torch.stack(scores)[..., 0]
        print(f"[{len(scores)}/{len(windows)}] perplexity {math.exp(running.mean()):.4f}", flush=True)
    scores = torch.stack(scores)
    figures = summarize(scores)
    for key, value in figures.items():
        print(f"{key:28} {value:.6g}")
    if arguments.json:
        figures |= {"seconds": time.perf_counter() - start, "threads": arguments.threads, "seqlen": arguments.seqlen,
                    "text_tokens": tokens, "text_sha256": sha256(arguments.text),
                    "model_sha256": sha256(arguments.model), "torch": torch.__version__,
                    "window_nll": scores[..., 0].mean(1).tolist()}
        if reference:
            figures |= {"reference_sha256": sha256(arguments.reference), "window_kl": scores[..., 1].mean(1).tolist()}
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
