#!/usr/bin/env python3
"""The baseline: llm-compressor's GPTQ, on exactly the calibration tokens that Neap gets.

    bench/llm_compressor_gptq.py --model DIR --calib FILE --out DIR [--draw D] [--actorder none|static]

Every linear layer of the decoder blocks becomes asymmetric integers of --bits in groups of --group-size along the
inputs, with llm-compressor's `mse` observer for the ranges and its sequential pipeline (each block calibrated on the
outputs of the quantized blocks before it); lm_head and the embeddings stay. Block size 128, damping 0.01: its defaults.

Calibration windows: the text is tokenized as a whole and cut into windows of --seqlen tokens that do not overlap. Draw
d (0, 1 or 2) takes the windows whose index i has i mod 3 = d, in ascending order, the first --samples of them. So the
three draws are disjoint, and any other program can repeat them. They exist because one calibration set is one sample:
a difference between methods that is smaller than the difference between draws is not a finding.

--out receives the *dequantized* weights as a plain float32 directory that every evaluator understands, and
quantization.json (settings, seconds, hashes). --compressed receives the same model as compressed-tensors packs it.
The seconds are those of the quantization alone: no loading, no tokenizing, no saving.
"""
import argparse
import json
import os
import time
from pathlib import Path

import compressed_tensors
import llmcompressor
import torch
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from llmcompressor import oneshot
from llmcompressor.modifiers.gptq import GPTQModifier
from safetensors.torch import save_file
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer

from torch_perplexity import read_windows, sha256

DRAWS = 3


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face directory to quantize")
    parser.add_argument("--calib", type=Path, required=True, help="UTF-8 text to calibrate on")
    parser.add_argument("--out", type=Path, required=True, help="directory for the dequantized float32 model")
    parser.add_argument("--compressed", type=Path, help="directory for the packed model")
    parser.add_argument("--samples", type=int, default=12, help="calibration windows (default 12)")
    parser.add_argument("--seqlen", type=int, default=2048, help="tokens per window (default 2048)")
    parser.add_argument("--draw", type=int, default=0, choices=range(DRAWS), help="which windows (default 0)")
    parser.add_argument("--bits", type=int, default=3, help="bits per weight (default 3)")
    parser.add_argument("--group-size", type=int, default=64, help="inputs that share scale and zero (default 64)")
    parser.add_argument("--other-group-size", type=int,
                        help="of layers whose inputs --group-size does not divide, which llm-compressor cannot quantize with it")
    parser.add_argument("--actorder", choices=("none", "static"), default="static",
                        help="static: decide the inputs of the largest activations first, groups stay as stored "
                             "(default, as in llm-compressor); none: in the order of storage")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32",
                        help="of the model while it is quantized, hence of scales and activations (default float32)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: torch's choice")
    return parser.parse_args()


def draw_windows(windows, draw, samples):
    """The calibration windows of one draw, (samples, seqlen), and their indices."""
    chosen = list(range(draw, len(windows), DRAWS))[:samples]
    if len(chosen) < samples:
        raise SystemExit(f"draw {draw} has {len(chosen)} windows, {samples} are wanted: the text is too short")
    return windows[chosen], chosen


def config_groups(model, arguments):
    """Which layers have which group size."""
    of_size = {}
    for name, module in model.model.named_modules():
        if isinstance(module, torch.nn.Linear):
            divides = module.in_features % arguments.group_size == 0 or not arguments.other_group_size
            of_size.setdefault(arguments.group_size if divides else arguments.other_group_size, []).append(f"model.{name}")
    scheme = lambda size, names: QuantizationScheme(targets=names, weights=QuantizationArgs(
        num_bits=arguments.bits, type="int", symmetric=False, strategy="group", group_size=size, observer="mse"))
    return {f"group_{i}": scheme(size, names) for i, (size, names) in enumerate(of_size.items())}


def recipe(model, arguments):
    return GPTQModifier(config_groups=config_groups(model, arguments), ignore=["lm_head"],
                        actorder=None if arguments.actorder == "none" else "static")


def quantize(model, windows, arguments):
    """Quantize in place; returns wall seconds and processor seconds (less disturbed by what else the machine does)."""
    loader = DataLoader([{"input_ids": window} for window in windows], batch_size=1, shuffle=False)
    start, cpu_start = time.perf_counter(), time.process_time()
    oneshot(model=model, dataset=loader, recipe=recipe(model, arguments), pipeline="sequential",
            num_calibration_samples=len(windows), max_seq_length=arguments.seqlen, shuffle_calibration_samples=False)
    return time.perf_counter() - start, time.process_time() - cpu_start


def dequantized(model):
    """The plain state dict in float32: every quantized weight is scale x (code - zero point) in the model's dtype."""
    tensors, quantized = {}, 0
    for name, tensor in model.state_dict().items():
        if name.endswith(("weight_scale", "weight_zero_point", "weight_g_idx")):
            quantized += name.endswith("weight_scale")
        elif name != "lm_head.weight" or not model.config.tie_word_embeddings:
            tensors[name] = tensor.detach().float().contiguous().clone()
    expected = sum(isinstance(m, torch.nn.Linear) for m in model.model.modules())
    if quantized != expected:
        raise SystemExit(f"{quantized} of {expected} linear layers were quantized")
    check_codes(model, tensors)
    return tensors


def check_codes(model, tensors):
    """Every weight must be one of the 2^bits values of its group, up to the rounding of the model's dtype."""
    allowed = 0.001 if model.dtype == torch.float32 else 0.06
    for name, module in model.model.named_modules():
        scheme = getattr(module, "quantization_scheme", None)
        if scheme is None or scheme.weights is None:
            continue
        spread = lambda t: t.float().repeat_interleave(scheme.weights.group_size, dim=1)
        scale, zero = spread(module.weight_scale), spread(module.weight_zero_point)
        codes = tensors[f"model.{name}.weight"] / scale + zero
        top = 2 ** (scheme.weights.num_bits - 1)
        off = (codes - codes.round()).abs().max().item()
        if off > allowed or codes.round().min() < -top or codes.round().max() > top - 1:
            raise SystemExit(f"{name}: not on the grid that its scales name (off by {off:.3g} steps)")


def save_plain(tensors, model, tokenizer, out):
    """A directory that knows nothing of quantization."""
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    config = model.config.to_dict()
    for key in ("quantization_config", "_name_or_path"):
        config.pop(key, None)
    config.update(dtype="float32", architectures=[type(model).__name__])
    (out / "config.json").write_text(json.dumps(config, indent=2, default=str) + "\n")
    tokenizer.save_pretrained(out)


def main():
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    windows, tokens = read_windows(arguments.calib, tokenizer, arguments.seqlen)
    hashes = {"calib_sha256": sha256(arguments.calib), "model_sha256": sha256(arguments.model)}
    print(f"{arguments.calib}: sha256 {hashes['calib_sha256']}, {tokens} tokens, {len(windows)} windows")
    print(f"{arguments.model}: sha256 of weights {hashes['model_sha256']}")
    calibration, chosen = draw_windows(windows, arguments.draw, arguments.samples)

    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=getattr(torch, arguments.dtype))
    seconds, cpu_seconds = quantize(model, calibration, arguments)
    print(f"quantized in {seconds:.1f} s, {cpu_seconds:.1f} s of processor time, {arguments.threads} threads")
    save_plain(dequantized(model), model, tokenizer, arguments.out)
    keys = ("bits", "group_size", "other_group_size", "actorder", "dtype", "samples", "seqlen", "draw", "threads")
    settings = {key: getattr(arguments, key) for key in keys}
    report = {"seconds": seconds, "cpu_seconds": cpu_seconds, **settings, "windows": chosen, "calib_tokens": tokens,
              **hashes, "llmcompressor": llmcompressor.__version__, "torch": torch.__version__,
              "compressed_tensors": compressed_tensors.__version__, "load_average": os.getloadavg()}
    (arguments.out / "quantization.json").write_text(json.dumps(report, indent=1) + "\n")
    if arguments.compressed:
        model.save_pretrained(arguments.compressed, save_compressed=True)
        tokenizer.save_pretrained(arguments.compressed)


if __name__ == "__main__":
    main()
