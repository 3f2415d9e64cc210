#!/usr/bin/env python3
"""The picture in the README: the log-perplexity gap of every method, from the folder that bench/quality.py wrote.

    bench/plot_quality.py FOLDER --bits 3 --group-size 64 [--also NAME=GAP ...] > docs/quality.svg

Bars are means over the draws that are there. --also adds what another program reached on the same tokens.
"""
import argparse
import collections
import html
import json
import math
import pathlib

WIDTH, LEFT, ROW, BAR, TOP = 860, 230, 34, 20, 64


def gaps_of(folder, bits, group):
    """{method: mean gap} in the order of bench/quality.py's table."""
    gaps = collections.defaultdict(list)
    for path in sorted(folder.glob(f"w{bits}-g{group}-*.json"), key=lambda p: p.stat().st_mtime):
        run = json.loads(path.read_text())
        gaps[run["method"]].append(math.log(run["eval"]["perplexity"] / run["eval"]["reference_perplexity"]))
    return {method: sum(values) / len(values) for method, values in gaps.items()}


def bar(index, name, gap, scale, colour):
    y = TOP + index * ROW
    width = gap * scale
    return (f'<text x="{LEFT - 12}" y="{y + 15}" text-anchor="end">{html.escape(name)}</text>'
            f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" rx="3" fill="{colour}"/>'
            f'<text x="{LEFT + width + 8:.1f}" y="{y + 15}" class="value">{gap:.3f}</text>')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--bits", type=int, default=3)
    parser.add_argument("--group-size", type=int, default=64)
    parser.add_argument("--also", nargs="*", default=[], metavar="NAME=GAP")
    arguments = parser.parse_args()
    bars = [(name, gap, "#2f6f9f") for name, gap in gaps_of(arguments.folder, arguments.bits, arguments.group_size).items()]
    for text in arguments.also:
        name, gap = text.rsplit("=", 1)
        bars.append((name, float(gap), "#b8873b"))
    bars.sort(key=lambda entry: -entry[1])
    scale = (WIDTH - LEFT - 80) / bars[0][1]
    height = TOP + ROW * len(bars) + 12
    title = f"{arguments.bits} bits, groups of {arguments.group_size}: log(perplexity / full precision's), less is better"
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="14">'
          f'<style>text{{fill:#222}}.value{{fill:#555}}</style><rect width="100%" height="100%" fill="#fff"/>'
          f'<text x="24" y="34" font-size="17">{html.escape(title)}</text>'
          + "".join(bar(i, *entry[:2], scale, entry[2]) for i, entry in enumerate(bars)) + "</svg>")


if __name__ == "__main__":
    main()
