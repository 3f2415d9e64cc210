#!/usr/bin/env python3
"""GGUF files and importance matrices of Neap in llama.cpp's own programs, live.

    llama_cpp_peer.py --neap PROGRAM --models FOLDER [--llama FOLDER]

FOLDER of models holds smollm2-offgrid (tools/make_offgrid_model.py), that of llama.cpp llama-perplexity, llama-imatrix and
llama-quantize (default: $NEAP_LLAMA_CPP, or wherever PATH has them). Without them the test is skipped (exit status 77).

- Of each type: the file dequantized by the `gguf` package and run by llama.cpp in F32 has Neap's log-probabilities, to 1e-3 of their
  range. The file itself, whose activations llama.cpp rounds to 8 bits in blocks of 32, has hardly more mean KL from Neap's than that
  rounding makes by itself, which PyTorch says (0.0033 nats on this model and text).
- The same model in several files is the same model.
- The importance matrix that Neap measures has llama-imatrix' sums to 1e-3, llama-quantize takes it, and Neap reads both forms that
  llama-imatrix writes.

The text is docs/algorithms/lobcq.md.
"""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXT = ROOT / "docs/algorithms/lobcq.md"
WINDOW, WINDOWS = 512, 4
SKIPPED = 77
EXACT = ["-ctk", "f32", "-ctv", "f32", "-fa", "off"]

import gguf  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402
from logit_file import largest_difference, read_logits  # noqa: E402

KINDS = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL", "MXFP4", "NVFP4"]


def run(*arguments):
    done = subprocess.run([str(a) for a in arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, arguments))}:\n{done.stdout[-3000:]}")
    return done.stdout


def as_f32(source, target):
    """The same GGUF with every tensor as the gguf package dequantizes it, multiplied by its matrix scale (NVFP4)."""
    reader = gguf.GGUFReader(source)
    scales = {t.name: t.data for t in reader.tensors if t.name.endswith(".scale")}
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        kind, element = field.types[0], field.types[-1] if len(field.types) > 1 else None
        writer.add_key_value(name, field.contents(), kind, element)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for tensor in reader.tensors:
        if tensor.name in scales:
            continue
        scale = scales.get(tensor.name.replace(".weight", ".scale"), 1)
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type) * scale
        writer.add_tensor(tensor.name, np.ascontiguousarray(values, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def rounded_as_q8_0(x):
    """As llama.cpp has the inputs of quantized weights: 8 bits under an fp16 scale for 32 of them."""
    blocks = x.reshape(*x.shape[:-1], -1, 32)
    scale = blocks.abs().amax(-1, keepdim=True) / 127
    codes = torch.where(scale > 0, blocks / scale, 0).round()
    return (codes * scale.half().float()).reshape(x.shape)


@torch.no_grad()
def kl_of_rounded_inputs(folder, ids):
    """Mean over the second halves of the windows: what rounding every linear layer's inputs does to the dense model."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def log_probabilities():
        return [torch.log_softmax(model(torch.tensor(window)[None].long()).logits[0, len(window) // 2:-1], -1) for window in ids]
    exact = log_probabilities()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(lambda _, inputs: (rounded_as_q8_0(inputs[0]),))
    return float(torch.cat([(p.exp() * (p - q)).sum(-1) for p, q in zip(exact, log_probabilities())]).mean())


class Checks:
    def __init__(self, arguments, scratch):
        self.neap, self.llama, self.scratch, self.wrong = arguments.neap, arguments.llama, scratch, 0
        self.model = arguments.models / "smollm2-offgrid"
        self.kl_of_inputs = kl_of_rounded_inputs(self.model, read_logits(self.logits(self.model)).ids)

    def claim(self, holds, words):
        print(f"{'holds' if holds else 'WRONG'}  {words}", flush=True)
        self.wrong += not holds

    def quantize(self, name, *options):
        out = self.scratch / name
        run(self.neap, "quantize", self.model, "-o", out, "--allow-fallback", *options)
        return min(out.glob("*.gguf"))  # of several, the first

    def perplexity(self, *options):
        return run(self.llama / "llama-perplexity", "-f", TEXT, "-c", WINDOW, "--chunks", WINDOWS, *options)

    def kl(self, model, base, *options):
        words = self.perplexity("-m", model, "--kl-divergence", "--kl-divergence-base", base, *options)
        return float(re.search(r"Mean +KLD: +([-0-9.]+)", words)[1])

    def logits(self, model):
        """Neap's own."""
        path = self.scratch / "neap.kld"
        run(self.neap, "eval", model, "--text", TEXT, "--ppl-mode", "llamacpp", "--window", WINDOW, "--windows", WINDOWS,
            "--precision", "f32", "--save-logits", path)
        return path

    def check_type(self, kind):
        model = self.quantize(kind, "--scheme", f"GGUF:{kind}", "--method", "rtn")
        ours, theirs, plain = self.logits(model), self.scratch / "llama.kld", self.scratch / "plain.gguf"
        as_f32(model, plain)
        self.perplexity("-m", plain, "--kl-divergence-base", theirs, *EXACT)
        a, b = read_logits(ours), read_logits(theirs)
        self.claim((a.ids == b.ids).all(), f"{kind}: both read the same {a.ids.size} tokens")
        difference = largest_difference(a.log_probabilities, b.log_probabilities)
        self.claim(difference <= 1e-3, f"{kind}: as F32, log-probabilities differ by {difference:.1e} of their range (allowed 1e-3)")
        kl = self.kl(model, ours)
        self.claim(kl <= 1.3 * self.kl_of_inputs,
                   f"{kind}: on 8-bit activations, mean KL from Neap's {kl:.6f}; rounding inputs alone makes {self.kl_of_inputs:.6f} (allowed 1.3 times that)")

    def check_split(self):
        options = ("--scheme", "GGUF:Q4_0", "--method", "rtn")
        whole, split = self.quantize("whole", *options), self.quantize("split", *options, "--max-shard-size", "20M")
        self.claim(split.name.startswith("split-00001-of-0000"), f"a split model: {split.name}")
        ours = self.logits(whole)
        self.claim(self.kl(whole, ours) == self.kl(split, ours), "in several files it is the same model to llama.cpp")

    def check_imatrix(self):
        whole, plain = self.quantize("source", "--scheme", "GGUF:Q8_0", "--method", "rtn"), self.scratch / "plain.gguf"
        as_f32(whole, plain)
        ours, theirs, older = (self.scratch / name for name in ("ours.gguf", "theirs.gguf", "theirs.dat"))
        run(self.neap, "imatrix", whole, "-o", ours, "--calib", TEXT, "--seqlen", WINDOW, "--samples", WINDOWS, "--precision", "f32")
        for path, form in ((theirs, "gguf"), (older, "dat")):
            run(self.llama / "llama-imatrix", "-m", plain, "-f", TEXT, "-o", path, "--output-format", form, "-c", WINDOW,
                "--chunks", WINDOWS, "--no-ppl", *EXACT)
        a, b = ({t.name: np.array(t.data).ravel() for t in gguf.GGUFReader(p).tensors} for p in (ours, theirs))
        self.claim(set(a) == set(b) and len(a) == 2 * 210, f"the same {len(b)} tensors as llama-imatrix")
        worst = max(float((np.abs(a[name] - b[name]) / np.maximum(b[name], 1e-9 * b[name].max())).max()) for name in b)
        self.claim(worst <= 1e-3, f"sums differ by {worst:.1e} of themselves (allowed 1e-3)")
        words = run(self.llama / "llama-quantize", "--imatrix", ours, plain, self.scratch / "their-q4_0.gguf", "Q4_0")
        without = set(re.findall(r"did not find weights for (\S+)", words))
        self.claim("loaded 210 importance matrix entries" in words and without == {"token_embd.weight"}, "llama-quantize takes Neap's")
        sizes = {}
        for path in (ours, theirs, older):
            model = self.quantize(f"by-{path.stem}-{path.suffix[1:]}", "--scheme", "GGUF:Q4_0", "--imatrix", path)
            sizes[path.name] = self.kl(model, self.logits(self.model))
        spread = max(sizes.values()) / min(sizes.values()) - 1
        self.claim(spread < 0.05, f"weighed by either file, KL from the source is {sizes}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neap", required=True)
    parser.add_argument("--models", required=True, type=pathlib.Path)
    found = os.environ.get("NEAP_LLAMA_CPP") or os.path.dirname(shutil.which("llama-perplexity") or "")
    parser.add_argument("--llama", type=pathlib.Path, default=found or None)
    parser.add_argument("--kinds", nargs="+", default=KINDS)
    arguments = parser.parse_args()
    if not arguments.llama:
        print("llama.cpp's programs are not here (NEAP_LLAMA_CPP)")
        return SKIPPED
    with tempfile.TemporaryDirectory() as scratch:
        checks = Checks(arguments, pathlib.Path(scratch))
        for kind in arguments.kinds:
            checks.check_type(kind)
        checks.check_split()
        checks.check_imatrix()
    return 1 if checks.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
