#!/usr/bin/env python3
"""Neap's tokenizer against the `tokenizers` package, id for id and text for text, live.

    compare_tokenizers.py --tool build/dev/tests/model/tokenizer_tool [--strings N] [--seed S] [--text FILE...] TOKENIZER...

TOKENIZER is a tokenizer.json, a directory that holds one, or a GGUF (which is compared with the tokenizer.json that Neap
makes from it). --text files are compared whole. --time prints megabytes per second of both on the --text files.
"""
import argparse
import json
import pathlib
import struct
import subprocess
import sys
import time

from tokenizers import Tokenizer

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "golden"))
import hostile_text  # noqa: E402


class Tool:
    def __init__(self, tool, path, special):
        command = [tool, path] + (["--special"] if special else [])
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def read(self, count):
        data = self.process.stdout.read(count)
        if len(data) != count:
            raise SystemExit(f"the tool ended: {self.process.wait()}")
        return data

    def __call__(self, text):
        self.process.stdin.write(struct.pack("<I", len(text)) + text)
        self.process.stdin.flush()
        count, = struct.unpack("<I", self.read(4))
        ids = list(struct.unpack(f"<{count}i", self.read(4 * count)))
        length, = struct.unpack("<I", self.read(4))
        return ids, self.read(length)


def judge_of(tool, path):
    if path.endswith(".gguf"):
        return Tokenizer.from_str(subprocess.run([tool, path, "--json"], check=True, capture_output=True, text=True).stdout)
    file = pathlib.Path(path)
    judge = Tokenizer.from_file(str(file / "tokenizer.json" if file.is_dir() else file))
    judge.no_truncation()
    judge.no_padding()
    return judge


def compare(judge, tool, text):
    """What differs, or nothing."""
    valid = text.decode("utf8", "replace")
    for special, run in ((False, tool[0]), (True, tool[1])):
        ids, decoded = run(text)
        try:
            expected = judge.encode(valid, add_special_tokens=special).ids
        except BaseException as error:  # a panic is no Exception
            if type(error).__name__ != "PanicException":
                raise
            return None  # tokenizers 0.23 cannot take a token whose white space the one before has stripped
        if ids != expected:
            at = next((i for i, (a, b) in enumerate(zip(ids, expected)) if a != b), min(len(ids), len(expected)))
            return f"ids differ at {at}: {ids[at:at + 8]} for {expected[at:at + 8]} ({[judge.id_to_token(i) for i in expected[at:at + 4]]})"
        if decoded.decode("utf8", "replace") != judge.decode(ids, skip_special_tokens=False):
            return f"decoded texts differ: {decoded[:60]!r} for {judge.decode(ids, skip_special_tokens=False)[:60]!r}"
    return None


def measure(tool, path, judge, file):
    data = file.read_bytes()
    text = data.decode("utf8")
    ours = min(float(subprocess.run([tool, path, "--time"], input=data, check=True, capture_output=True).stdout.split()[0])
               for _ in range(3))
    theirs = []
    for _ in range(3):
        fresh = Tokenizer.from_str(judge.to_str())  # without the words that it has seen before
        begin = time.perf_counter()
        fresh.encode(text)
        theirs.append(time.perf_counter() - begin)
    size = len(data) / 1e6
    print(f"  {file.name}: {size / ours:.1f} MB/s, tokenizers {size / min(theirs):.2f} MB/s ({min(theirs) / ours:.1f} times as long)")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tool", required=True)
    parser.add_argument("--strings", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--text", type=pathlib.Path, nargs="*", default=[])
    parser.add_argument("--time", action="store_true")
    parser.add_argument("tokenizers", nargs="+")
    args = parser.parse_args()
    failed = 0
    for path in args.tokenizers:
        judge = judge_of(args.tool, path)
        tool = (Tool(args.tool, path, False), Tool(args.tool, path, True))
        specials = [t["content"] for t in json.loads(judge.to_str())["added_tokens"]][:12]
        texts = hostile_text.fixed(specials) + hostile_text.random_texts(args.strings, args.seed, specials)
        texts += [text.encode("utf8") for text in hostile_text.LONG]
        texts += [file.read_bytes() for file in args.text]
        wrong = [(text, what) for text in texts if (what := compare(judge, tool, text))]
        print(f"{path}: {len(texts) - len(wrong)} of {len(texts)} texts equal")
        for text, what in wrong[:5]:
            print(f"  {text[:100]!r}: {what}")
        if args.time:
            for file in args.text:
                measure(args.tool, path, judge, file)
        failed += bool(wrong)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
