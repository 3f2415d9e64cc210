#!/usr/bin/env python3
"""Make tests/golden/sampling.json: what transformers' own logits processors leave to choose from, and with what probability.

    tests/golden/make_sampling_goldens.py [--out FILE]

Each case: logits (in 64ths, all different, so that nothing hangs on the order of equals), the tokens so far, the options,
and the ids that are left, likeliest first, with their probabilities in fp64. The processors stand in the order in which
`generate` has them.
"""
import argparse
import itertools
import json
from pathlib import Path

import torch
from transformers.generation import logits_process as lp


def processors(o):
    if o["repetition_penalty"] != 1:
        yield lp.RepetitionPenaltyLogitsProcessor(o["repetition_penalty"])
    yield lp.TemperatureLogitsWarper(o["temperature"])
    if o["top_k"]:
        yield lp.TopKLogitsWarper(o["top_k"])
    if o["top_p"] < 1:
        yield lp.TopPLogitsWarper(o["top_p"])
    if o["min_p"]:
        yield lp.MinPLogitsWarper(o["min_p"])


def case(count, spread, seed, **options):
    o = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0} | options
    generator = torch.Generator().manual_seed(seed)
    sixty_fourths = torch.randperm(64 * spread, generator=generator)[:count] - 32 * spread
    history = torch.randint(count, (count // 4,), generator=generator)
    scores = (sixty_fourths.double() / 64)[None]
    for processor in processors(o):
        scores = processor(history[None], scores)
    order = torch.argsort(scores[0], descending=True)
    probabilities = torch.softmax(scores[0], -1)[order]
    left = int((probabilities > 0).sum())
    return o | {"logits": sixty_fourths.tolist(), "history": history.tolist(), "ids": order[:left].tolist(),
                "probabilities": probabilities[:left].tolist()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "sampling.json")
    out = parser.parse_args().out
    choices = itertools.product((1.0, 0.7), (0, 5), (1.0, 0.9, 0.3), (0.0, 0.1), (1.0, 1.3))
    names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
    cases = [case(61, 12, i, **dict(zip(names, values))) for i, values in enumerate(choices)]
    cases += [case(700, 16, 100, temperature=4.0, top_p=0.95), case(700, 16, 101, temperature=3.0, min_p=0.02),
              case(61, 12, 102, temperature=0.1, top_p=0.5, min_p=0.5), case(61, 12, 103, repetition_penalty=0.8)]
    out.write_text("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n")
    print(f"{out}: {len(cases)} cases")


if __name__ == "__main__":
    main()
