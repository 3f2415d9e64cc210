#!/usr/bin/env python3
"""The table at the end of ./demo, from the JSON files in its folder.

    tools/demo_table.py FOLDER ORIGINAL METHOD...

FOLDER/ORIGINAL.inspect.json describes the model; for each METHOD there are FOLDER/METHOD.json, .inspect.json, .eval.json
(of `neap quantize`, `inspect`, `eval`), and .txt with a generated sentence, as there is for ORIGINAL.
"""
import json
import pathlib
import sys

HEADER = ("model", "bits/weight", "whole file", "size", "perplexity", "KL (nats)", "same top-1", "time", "peak memory")


def read(folder, name):
    return json.loads((folder / name).read_text())


def clock(seconds):
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def bits_and_size(inspected):
    bits = inspected["bits_per_weight"]
    return [f"{bits['quantized_layers']:.2f}", f"{bits['whole_file']:.2f}", f"{inspected['bytes'] / 1e6:.1f} MB"]


def row_of_original(folder, name, evaluation):
    value, error = evaluation["reference_perplexity"], evaluation["reference_perplexity_error"]
    return [name, *bits_and_size(read(folder, name + ".inspect.json")), f"{value:.2f} +/- {error:.2f}", "0", "100 %",
            "", ""]


def row_of_method(folder, name, evaluation):
    report = read(folder, name + ".json")
    kl, top = evaluation["kl"], evaluation["same_top"]
    return [name, *bits_and_size(read(folder, name + ".inspect.json")),
            f"{evaluation['perplexity']:.2f} +/- {evaluation['perplexity_error']:.2f}",
            f"{kl['mean']:.3f} +/- {kl['error']:.3f}", f"{100 * top['mean']:.1f} %", clock(report["seconds"]),
            f"{report['peak_memory_bytes'] / 1e6:.0f} MB"]


def main():
    folder, original, methods = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    evaluations = [read(folder, name + ".eval.json") for name in methods]
    rows = [HEADER, row_of_original(folder, original, evaluations[0])]
    rows += [row_of_method(folder, name, evaluation) for name, evaluation in zip(methods, evaluations)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    for row in rows:
        print(row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:])), sep="  ")
    print()
    for name in (original, *methods):
        print(f"{name + ':':<{widths[0] + 1}} {' '.join((folder / (name + '.txt')).read_text().split())}")


if __name__ == "__main__":
    main()
