#!/usr/bin/env python3
"""Single layers as wide as Llama-3-8B's: llama.cpp's quantizer against Neap's solver, by the error of a layer's output.

    bench/gguf_layers.py --model DIR --calib FILE --text FILE --llama FOLDER --out FOLDER [--types Q4_0 Q2_K ...]

A layer of 4096 or 14336 inputs is a smaller model's layers of neighbouring blocks side by side: its inputs are what these layers
read in the full-precision model, one after another, and a row of the weight is their rows, one after another, cut at that many
inputs. So spectrum, outliers and weights are a trained model's; what is made up is that they stand in one layer. "_same": all
read the same token, and neighbouring blocks read much the same, so that inputs go together more than they would in one
layer. "_apart": each block reads another window, so that inputs go together within blocks alone, less than they would. Rows are --rows
(Llama-3-8B has 4096 or 14336; rows do not know of each other).

Both get the same statistics of --samples windows of --calib: Neap's solver the second moments H, llama-quantize their diagonal as
an importance matrix, that being all it reads. Neap's targets are the weights themselves. Judged on --held-out windows of --text:

    ||X (W^ - W)'||^2 / ||X W'||^2

and the same without the direction in which X has its largest energy ("rest").

Each layer's figures stand in FOLDER/LAYER.json, its statistics in FOLDER/LAYER/; what is there is not measured again. The table (Markdown) is printed and written
to FOLDER/gguf_layers.md. Needs torch, transformers and gguf.
"""
import argparse
import json
import pathlib
import subprocess

import gguf
import numpy
import torch
import transformers

GATE, DOWN = ("mlp.gate_proj", 4096, "blk.0.ffn_gate.weight"), ("mlp.down_proj", 14336, "blk.0.ffn_down.weight")
# What it is made of, how many inputs, its name for llama-quantize; which blocks; by how many windows the next block is ahead.
# The largest inputs of SmolLM2's down_proj are in block 11.
LAYERS = {"gate_4096_same": (*GATE, range(8, 16), 0), "gate_4096_apart": (*GATE, range(8, 16), 1),
          "down_14336_same": (*DOWN, range(8, 18), 0), "down_14336_apart": (*DOWN, range(17, 27), 1)}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, what in (("model", "Hugging Face directory, off the grid"), ("calib", "UTF-8 text to calibrate on"),
                       ("text", "UTF-8 text to judge on"), ("llama", "folder of llama.cpp's programs"), ("out", "folder of the results")):
        parser.add_argument("--" + name, type=pathlib.Path, required=True, help=what)
    parser.add_argument("--solver", default="build/dev/bench/solve_gguf_layer", help="the program (default: build/dev/bench/solve_gguf_layer)")
    parser.add_argument("--layers", nargs="+", default=list(LAYERS), choices=list(LAYERS))
    parser.add_argument("--types", nargs="+", default=["Q4_0", "Q2_K", "Q3_K", "Q4_K", "Q5_0", "IQ4_NL"])
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--samples", type=int, default=16, help="calibration windows")
    parser.add_argument("--held-out", type=int, default=4, help="windows to judge on")
    parser.add_argument("--seqlen", type=int, default=2048, help="tokens of a window")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def windows(a, file, count):
    ids = transformers.AutoTokenizer.from_pretrained(a.model)(file.read_text(encoding="utf8"), add_special_tokens=False).input_ids
    assert len(ids) >= count * a.seqlen, "too little text"
    return torch.tensor(ids[:count * a.seqlen]).view(count, 1, a.seqlen)


def inputs(a, model, layer, file, count):
    """Yields X of `count` windows, (tokens, width)."""
    name, width, _, blocks, ahead = LAYERS[layer]
    read, past = {}, []
    hooks = [model.model.layers[b].get_submodule(name).register_forward_hook(lambda _, given, out, b=b: read.__setitem__(b, given[0][0]))
             for b in blocks]
    span = 1 + ahead * (len(blocks) - 1)
    with torch.no_grad():
        for window in windows(a, file, count + span - 1):
            model.model(window)
            past.append(dict(read))
            if len(past) == span:
                yield torch.cat([past[ahead * k][b] for k, b in enumerate(blocks)], 1)[:, :width]
                past.pop(0)
    for hook in hooks:
        hook.remove()


def second_moments(a, model, layer):
    width = LAYERS[layer][1]
    h = torch.zeros(width, width)
    for x in inputs(a, model, layer, a.calib, a.samples):
        h.addmm_(x.T, x)
    return h


def write_importance(path, tensor, h, tokens):
    writer = gguf.GGUFWriter(path, "", endianess=gguf.GGUFEndian.LITTLE)
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["calibration"])
    writer.add_uint32("imatrix.chunk_count", 1)
    writer.add_uint32("imatrix.chunk_size", tokens)
    writer.add_tensor(tensor + ".in_sum2", numpy.ascontiguousarray(h.diagonal().numpy()))
    writer.add_tensor(tensor + ".counts", numpy.array([tokens], dtype=numpy.float32))
    finish(writer)


def write_model(path, tensor, weight):
    """As much of a model as llama-quantize asks for."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(512)
    writer.add_embedding_length(4096)
    writer.add_feed_forward_length(14336)
    writer.add_head_count(32)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tensor(tensor, weight)
    finish(writer)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def theirs(a, folder, kind, tensor):
    subprocess.run([a.llama / "llama-quantize", "--pure", "--imatrix", folder / "imatrix.gguf", folder / "layer.gguf",
                    folder / "quantized.gguf", kind, str(a.threads)], check=True, capture_output=True)
    (found,) = gguf.GGUFReader(folder / "quantized.gguf").tensors
    assert found.name == tensor and found.tensor_type == getattr(gguf.GGMLQuantizationType, kind), found
    return gguf.quants.dequantize(found.data, found.tensor_type)


def ours(folder, kind, shape):
    return numpy.fromfile(folder / f"{kind}.f32", dtype=numpy.float32).reshape(shape)


def largest_direction(rows):
    x = torch.cat(rows)
    direction = torch.ones(x.shape[1])
    for _ in range(30):
        direction = x.T @ (x @ direction)
        direction /= direction.norm()
    return direction


def judge(rows, direction, weight, quantized):
    """Relative error of the output: whole, and without `direction`."""
    weight, error = torch.from_numpy(weight), torch.from_numpy(quantized - weight)
    sums = torch.zeros(2, 2, dtype=torch.float64)
    for x in rows:
        for i, part in enumerate((x, x - torch.outer(x @ direction, direction))):
            for j, of in enumerate((error, weight)):
                sums[i, j] += (part @ of.T).double().square().sum()
    return [float(error / energy) for error, energy in sums]


def measure(a, model, layer):
    result = a.out / f"{layer}.json"
    figures = json.loads(result.read_text()) if result.exists() else {}
    wanted = [kind for kind in a.types if kind not in figures]
    if not wanted:
        return figures
    name, width, tensor, blocks, _ = LAYERS[layer]
    folder = a.out / layer
    folder.mkdir(parents=True, exist_ok=True)
    weight = torch.cat([model.model.layers[b].get_submodule(name).weight for b in blocks], 1).detach()[:a.rows, :width].contiguous().numpy()
    if not (folder / "H.f32").exists():
        h = second_moments(a, model, layer)
        write_importance(folder / "imatrix.gguf", tensor, h, a.samples * a.seqlen)
        write_model(folder / "layer.gguf", tensor, weight)
        weight.tofile(folder / "W.f32")
        h.numpy().tofile(folder / "H.f32")
        del h
    subprocess.run([a.solver, folder / "H.f32", folder / "W.f32", str(width), folder, *wanted], check=True)
    rows = list(inputs(a, model, layer, a.text, a.held_out))
    direction = largest_direction(rows)
    for kind in wanted:
        figures[kind] = {"llama": judge(rows, direction, weight, theirs(a, folder, kind, tensor)),
                         "neap": judge(rows, direction, weight, ours(folder, kind, weight.shape))}
        print(layer, kind, figures[kind], flush=True)
        result.write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def main():
    a = parse_arguments()
    torch.set_num_threads(a.threads)
    a.out.mkdir(parents=True, exist_ok=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32)
    rows = ["| layer | type | llama-quantize | Neap | ratio | rest: llama-quantize | Neap | ratio |", "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for layer in a.layers:
        figures = measure(a, model, layer)
        for kind in a.types:
            (them, them_rest), (us, us_rest) = figures[kind]["llama"], figures[kind]["neap"]
            rows.append(f"| {layer} | {kind} | {them:.6f} | {us:.6f} | {us / them:.2f} | {them_rest:.5f} | {us_rest:.5f} | {us_rest / them_rest:.2f} |")
    table = "\n".join(rows) + "\n"
    (a.out / "gguf_layers.md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
