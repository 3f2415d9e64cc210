"""The tokenizer of the golden models: one token a byte."""


def byte_symbols():
    """GPT-2's printable stand-ins for bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(0x100 + i) for i, b in enumerate(others)}


def byte_tokenizer():
    """<unk>, <s>, </s>, then one token a byte: the 259 of the golden models' vocabulary."""
    special = ["<unk>", "<s>", "</s>"]
    symbols = byte_symbols()
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {"version": "1.0", "truncation": None, "padding": None, "normalizer": None,
            "added_tokens": [{"id": i, "content": name, "single_word": False, "lstrip": False, "rstrip": False,
                              "normalized": False, "special": True} for i, name in enumerate(special)],
            "pre_tokenizer": level, "post_processor": None, "decoder": level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                      "vocab": {name: i for i, name in enumerate(special)} | {symbols[b]: 3 + b for b in range(256)},
                      "merges": []}}
