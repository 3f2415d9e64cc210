#!/usr/bin/env python3
"""Neap's chat templates against transformers' apply_chat_template, live.

    compare_chat.py --tool build/dev/tests/model/tokenizer_tool TEMPLATE...

TEMPLATE is a file of Jinja source, or a directory of *.jinja. Each is rendered with conversations of many shapes; the
clock stands still at the day that Neap has. A template that Neap does not implement is counted apart: it must be refused,
never rendered otherwise. Where transformers fails (the template raises an exception, or has a bug), Neap must fail too.
"""
import argparse
import datetime
import json
import pathlib
import subprocess
import sys

import jinja2
from transformers.utils import chat_template_utils

TODAY = datetime.datetime(2024, 7, 26)
NAMED = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return TODAY


chat_template_utils.datetime = Clock

CONTENTS = ["Hello!", "", " padded \n", "two\nlines\n\n", "<think>\nhmm\n</think>\n\nThe answer.", "a</think>b", "{{ not }} {% a %} {# tag #}", "é 中文 😀 '\"\\",
            "[INST] x [/INST]", "/no_think be brief", "\u00a0nbsp\u2003", "Who are you?", "<tool_response>\n1\n</tool_response>"]


def conversations():
    """role sequences x contents."""
    shapes = ["u", "su", "ua", "uau", "suau", "suaua", "uauau", "a", "s", "uu", "usu", "aa", "sau", "", "ss", "uauauaua", "x", "us"]
    roles = {"u": "user", "s": "system", "a": "assistant", "x": "tool"}
    at = 0
    for shape in shapes:
        for _ in range(4):
            messages = []
            for letter in shape:
                messages.append({"role": roles[letter], "content": CONTENTS[at % len(CONTENTS)]})
                at += 1 + (at % 7 == 0)
            yield messages


def expected(template, messages, prompt, named):
    try:
        return chat_template_utils.render_jinja_template([messages], chat_template=template, add_generation_prompt=prompt, **named)[0][0]
    except (jinja2.exceptions.TemplateError, TypeError, ValueError, AttributeError, KeyError, IndexError):
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tool", required=True)
    parser.add_argument("templates", nargs="+", type=pathlib.Path)
    args = parser.parse_args()
    files = [f for path in args.templates for f in (sorted(path.glob("*.jinja")) if path.is_dir() else [path])]
    tool = subprocess.Popen([args.tool, "--chat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    failed = 0
    for file in files:
        template = file.read_text(encoding="utf8")
        equal, refused, unsupported, wrong = 0, 0, {}, []
        for messages in conversations():
            for prompt in (False, True):
                named = NAMED if len(messages) % 2 else {"eos_token": "</s>"}
                variables = {"tools": None, "documents": None, "add_generation_prompt": prompt, **named}
                tool.stdin.write(json.dumps({"template": template, "messages": messages, "variables": variables}) + "\n")
                tool.stdin.flush()
                ours, theirs = json.loads(tool.stdout.readline()), expected(template, messages, prompt, named)
                if "text" in ours:
                    equal += ours["text"] == theirs
                    if ours["text"] != theirs:
                        wrong.append((messages, ours["text"], theirs))
                elif not ours["refused"]:
                    unsupported[ours["error"]] = unsupported.get(ours["error"], 0) + 1
                elif theirs is None:
                    refused += 1
                else:
                    wrong.append((messages, ours["error"], theirs))
        failed += bool(wrong)
        print(f"{file.name}: {equal} equal, {refused} refused by both, {sum(unsupported.values())} unsupported, {len(wrong)} WRONG"
              + "".join(f"\n    {count} x {error}" for error, count in unsupported.items()))
        for messages, ours, theirs in wrong[:2]:
            print(f"    {messages}\n    ours   {ours!r}\n    theirs {theirs!r}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
