#!/usr/bin/env python3
"""Includes go one way: each folder of src/ may include what stands behind its arrow here, and nothing else.

cli/ and python/ see include/neap alone; tests, fuzz and bench may look anywhere. Exit status 1 and one line for
each include that goes the wrong way.
"""
import pathlib
import re
import sys

ARROWS = {
    "base": "",
    "linalg": "base",
    "io": "base",
    "codec": "base",
    "model": "io codec linalg base",
    "calib": "model io codec linalg base",
    "solve": "linalg base",
    "kernels": "codec base",
    "quantize": "solve calib model codec io linalg base export",
    "export": "eval model codec io base",
    "runtime": "kernels codec model io linalg base",
    "eval": "model io linalg base",
}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def wrong_includes(root):
    for path in sorted(p for top in ("src", "cli", "python") for p in (root / top).rglob("*") if p.suffix in (".h", ".cpp")):
        top, folder = path.relative_to(root).parts[:2]
        allowed = {folder, *ARROWS[folder].split()} if top == "src" else set()
        for target in INCLUDE.findall(path.read_text(encoding="utf8")):
            home = target.split("/")[0]
            beside = top != "src" and (path.parent / target).exists()
            if home != "neap" and home not in allowed and not beside:
                yield f"{path.relative_to(root)}: includes {target}, but {folder if top == 'src' else top} may only include " \
                      f"{' '.join(sorted(allowed)) or 'neap/ (the public headers)'}"


def main():
    found = list(wrong_includes(pathlib.Path(__file__).resolve().parent.parent))
    print("\n".join(found) or "every include goes along an arrow")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
