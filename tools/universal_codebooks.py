#!/usr/bin/env python3
"""Files of `neap codebooks fit` as src/codec/lobcq_universal.cpp, which ships them:

    tools/universal_codebooks.py N2.json N4.json N8.json N16.json > src/codec/lobcq_universal.cpp

docs/algorithms/lobcq.md states the commands that made the files.
"""
import json
import sys

HEAD = """// The codebooks that Neap ships: frozen, because files in LO-BCQ's format are made with them. Written by
// tools/universal_codebooks.py from fits to block arrays of 64 and blocks of 8 that docs/algorithms/lobcq.md states.
#include <array>
#include <string>

#include "neap/codebooks.h"
#include "neap/error.h"

namespace neap {
namespace {

constexpr int kBlock = 8;

// clang-format off
"""

TAIL = """// clang-format on

template <std::size_t count>
Codebooks list_of(const std::array<Codebook, count>& codebooks) {
  return {codebooks.begin(), codebooks.end()};
}

}  // namespace

CodebookSet universal_codebooks(const LobcqLayout& layout) {
  require_valid(layout);
  if (layout.block != kBlock) {
    throw Error(ErrorCode::argument, "there are no universal codebooks for such blocks: fit some",
                {.expected = "blocks of 8", .found = std::to_string(layout.block)});
  }
  switch (layout.codebooks) {
CASES  }
}

}  // namespace neap
"""


def rows(name, codebooks):
    lines = ["  {%s}" % ", ".join("%3d" % e for e in book) for book in codebooks]
    return "constexpr std::array<Codebook, %d> %s = {{\n%s}};\n" % (len(codebooks), name, ",\n".join(lines))


def main():
    sets = [json.load(open(path, encoding="utf8")) for path in sys.argv[1:]]
    text, cases = HEAD, ""
    for i, s in enumerate(sets):
        n = s["num_codebooks"]
        assert s["format"] == "neap-codebooks" and s["version"] == 1 and s["block"] == 8
        text += rows("kWeights%d" % n, s["weights"]) + rows("kActivations%d" % n, s["activations"])
        label = "case %d" % n if i + 1 < len(sets) else "default"
        cases += "    %s: return {layout, list_of(kWeights%d), list_of(kActivations%d)};\n" % (label, n, n)
    text += TAIL.replace("CASES", cases)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
