#!/usr/bin/env python3
"""Blocks of Llama-3-8B's shape: seconds a block, and whether memory grows with depth or with calibration text.

    pip install numpy
    bench/scale.py --out FOLDER [--neap build/release/cli/neap] [--threads 2] [--max-memory 6G]

Makes models of 2 and 4 such blocks with random weights (bf16; 4096 wide, 14336 inside, 32 heads over 8, vocabulary 128256:
3.0 and 3.9 GB), once; quantizes them at 4 bits, groups of 128, calibrated on random tokens; prints a Markdown table with
the program's own figures: seconds, speed of each phase, peak memory (VmHWM). Time and memory do not depend on the
values of weights. Rows:

    time    2 blocks, 12 windows of 2048 tokens, the default method
    memory  2 and 4 blocks, 12 and 128 windows of 512 tokens, the greedy walk alone

Each run's report stands in FOLDER/*.json; runs whose file is there are not repeated.
"""
import argparse
import json
import pathlib
import shutil
import subprocess

import numpy

HIDDEN, MIDDLE, HEADS, KV_HEADS, HEAD, VOCABULARY = 4096, 14336, 32, 8, 128, 128256
CHUNK = 1 << 24  # weights made at a time
BYTES = 256      # tokens that the tokenizer knows
GREEDY = ["--paths", "0", "--descent", "0"]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of models and results")
    parser.add_argument("--neap", default="build/release/cli/neap", help="the program (default: build/release/cli/neap)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--max-memory", default="6G", help="what the program is told to plan for (default 6G)")
    return parser.parse_args()


def shapes(blocks):
    tensors = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN), "model.norm.weight": (HIDDEN,),
               "lm_head.weight": (VOCABULARY, HIDDEN)}
    for block in range(blocks):
        linear = {"self_attn.q_proj": (HEADS * HEAD, HIDDEN), "self_attn.k_proj": (KV_HEADS * HEAD, HIDDEN),
                  "self_attn.v_proj": (KV_HEADS * HEAD, HIDDEN), "self_attn.o_proj": (HIDDEN, HEADS * HEAD),
                  "mlp.gate_proj": (MIDDLE, HIDDEN), "mlp.up_proj": (MIDDLE, HIDDEN), "mlp.down_proj": (HIDDEN, MIDDLE),
                  "input_layernorm": (HIDDEN,), "post_attention_layernorm": (HIDDEN,)}
        tensors |= {f"model.layers.{block}.{name}.weight": shape for name, shape in linear.items()}
    return tensors


def values(shape, random):
    """bf16 in pieces: ones for a norm, else normal numbers of a size that keeps activations near 1."""
    left, scale = int(numpy.prod(shape)), shape[-1] ** -0.5
    while left > 0:
        count = min(left, CHUNK)
        drawn = numpy.ones(count) if len(shape) == 1 else random.standard_normal(count) * scale
        yield (drawn.astype(numpy.float32).view(numpy.uint32) >> 16).astype(numpy.uint16).tobytes()
        left -= count


def make_model(folder, blocks):
    if (folder / "config.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    header, offset = {}, 0
    for name, shape in shapes(blocks).items():
        size = 2 * int(numpy.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random = numpy.random.default_rng(0)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes(blocks).values():
            file.writelines(values(shape, random))
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
              "intermediate_size": MIDDLE, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD,
              "num_hidden_layers": blocks, "vocab_size": VOCABULARY, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
              "hidden_act": "silu", "max_position_embeddings": 8192, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
              "bos_token_id": 128000, "eos_token_id": 128001}
    (folder / "tokenizer.json").write_text(json.dumps(byte_tokenizer()))
    (folder / "config.json").write_text(json.dumps(config, indent=1))


def byte_tokenizer():
    """The least tokenizer.json that is one; calibration comes as ids."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(BYTES) if byte not in printable]
    letters = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": level, "post_processor": None,
            "decoder": level, "model": {"type": "BPE", "vocab": {letter: i for i, letter in enumerate(letters)}, "merges": []}}


def run(arguments, name, blocks, windows, length, options):
    result = arguments.out / f"{name}.json"
    if not result.exists():
        make_model(arguments.out / f"blocks{blocks}", blocks)
        random = numpy.random.default_rng(1)
        calibration = arguments.out / "calibration.jsonl"
        lines = [json.dumps({"ids": random.integers(BYTES, size=length).tolist()}) for _ in range(windows)]
        calibration.write_text("\n".join(lines) + "\n")
        output = arguments.out / "model"
        shutil.rmtree(output, ignore_errors=True)
        command = [arguments.neap, "quantize", "--no-verify", arguments.out / f"blocks{blocks}", "-o", output, "--bits", 4, "--group-size", 128,
                   "--calib", calibration, "--seqlen", length, "--threads", arguments.threads, "--max-memory",
                   arguments.max_memory, "--json", *options]
        done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, check=True)
        shutil.rmtree(output)
        result.write_bytes(done.stdout)
    return json.loads(result.read_text())


def main():
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    timed = run(arguments, "time", 2, 12, 2048, [])
    print(f"Default method, 2 blocks, 12 windows of 2048 tokens, {arguments.threads} threads: "
          f"{timed['seconds'] / 2:.0f} s a block, {timed['peak_memory_bytes'] / 2**30:.2f} GiB\n")
    print("| phase | s a block | GFLOP/s |\n|---|---|---|")
    for phase in timed["phases"]:
        speed = f"{phase['gflop'] / phase['seconds']:.0f}" if phase.get("gflop") else ""
        print(f"| {phase['name']} | {phase['seconds'] / 2:.1f} | {speed} |")
    print("\n| blocks | windows of 512 | peak memory | s a block |\n|---|---|---|---|", flush=True)
    for blocks, windows in ((2, 12), (4, 12), (2, 128), (4, 128)):
        report = run(arguments, f"memory-{blocks}-{windows}", blocks, windows, 512, GREEDY)
        print(f"| {blocks} | {windows} | {report['peak_memory_bytes'] / 2**30:.2f} GiB | {report['seconds'] / blocks:.0f} |",
              flush=True)


if __name__ == "__main__":
    main()
