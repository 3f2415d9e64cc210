#!/usr/bin/env python3
"""Make tests/golden/tokenizers/chat.json: conversations as transformers writes them with templates of each family's form.

    tests/golden/make_chat_goldens.py [--out FILE]

The templates are written here, to the forms of the families and with the constructs that their published templates use.
Each case: template, variables, messages, add_generation_prompt, and text, or null where the template refuses. The clock
stands still at 26 July 2024. The published templates themselves are compared live: tests/peers/compare_chat.py.
"""
import argparse
import datetime
import json
import sys
from pathlib import Path

import jinja2
from transformers.utils import chat_template_utils

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "peers"))
import compare_chat  # noqa: E402  (stops the clock)

TEMPLATES = {
    "chatml": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
              "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "smollm2": "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are "
               "a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] "
               "+ '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' "
               "}}{% endif %}",
    "qwen2": """{%- if tools %}
    {{- "tools" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are a default.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' ~ message.content ~ '\\n</tool_response>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",
    "qwen3": """{%- set ns = namespace(seen=false, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if not ns.seen and message.role == "user" and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.seen = true %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {#- a comment #}
    {%- if message.content is string %}{%- set content = message.content %}{%- else %}{%- set content = '' %}{%- endif %}
    {%- set thought = '' %}
    {%- if message.reasoning_content is defined and message.reasoning_content is not none %}
        {%- set thought = message.reasoning_content %}
    {%- elif '</think>' in content %}
        {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {%- if message.role == "assistant" and loop.index0 > ns.last and (loop.last or thought) %}
        {{- '<|im_start|>' + message.role + '\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + content }}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}""",
    "llama2": "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}"
              "{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
              "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate "
              "user/assistant/user/assistant/...') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = "
              "'<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}"
              "{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif "
              "message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
    "llama3": """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: " + date_string + "\\n\\n" + system_message + "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    "mistral": """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message["role"] == "user") != (loop.index0 % 2 == 0) %}
        {{- raise_exception("After the optional system message, conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif %}
    {%- if message["role"] == "user" %}
        {%- if message == user_messages[-1] and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported!") }}
    {%- endif %}
{%- endfor %}
""",
    "constructs": """  {% set a, b = 1, [1, 2, 3] %}
{# gone
#}
  {% macro wrap(text, left='<', right='>') -%}
    {{ left ~ text ~ right }}
  {%- endmacro %}
{{ wrap('x') }} {{ wrap(right=')', text='y') }}{{+ 1 }}
    {%+ if true %} kept{% endif +%}
{% for m in messages if m.role != 'system' %}{{ loop.index }}/{{ loop.length }}:{{ m.content[:3] }}|{{ m.content[-1] }}|{{ m.content | length
}}{% if loop.first %}F{% elif loop.last %}L{% endif %}{% if loop.index > 3 %}{% break %}{% endif %}{{ loop.nextitem.role if loop.nextitem
is defined else '-' }};{% else %}none{% endfor %}
{%- set body %}[{{ b | join(', ') }}]{% endset %}{{ body }} {{ b[::-1] | first }} {{ 7 // 2 }} {{ -7 % 3 }} {{ 2 * 3 + 1 }} {{ 'ab' * 2 }}
{{ ({'k': 'v', 'n': none}).items() | list | length }} {{ {'k': 'v é', 'l': [1, true, none, 'q"']} | tojson }} {{ {'k': [1, {}]} | tojson(indent=2) }}
{{ missing | default('d') }}{{ '' | default('e', true) }} {{ not missing }} {{ 'a' in 'cat' and 'b' not in ['a'] }} {{ a == 1 if false else a != 2 }}
{{ 'x y  z'.split() | join('-') }} {{ 'a,b,c'.split(',', 1)[1] }} {{ 'Hello'.replace('l', 'L').upper() }} {{ "it's \\x41\\u00e9\\n" | trim }}
{{ messages | map(attribute='role') | join(',') }} {{ range(3) | join }} {{ [1, 2, 3] | select('odd') | list | length }} {{ none }} {{ true }}
{%- for i in range(5) %}{% if i is even %}{% continue %}{% endif %}{{ i }}{% endfor %}{{ loop }}
{% generation %}inside{% endgeneration %}
{{ messages[9].role is defined }}{{ missing.attribute }}
""".replace("{{ messages[9].role is defined }}{{ missing.attribute }}", "{{ messages[0].nothing }}|"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "tokenizers" / "chat.json")
    args = parser.parse_args()
    assert chat_template_utils.datetime.now() == datetime.datetime(2024, 7, 26)
    cases = []
    for name, template in TEMPLATES.items():
        for i, messages in enumerate(compare_chat.conversations()):
            if i % 2:
                continue
            prompt = i % 4 == 0
            text = compare_chat.expected(template, messages, prompt, {"bos_token": "<s>", "eos_token": "</s>"})
            cases.append({"template": name, "messages": messages, "add_generation_prompt": prompt, "text": text})
        given = sum(c["text"] is not None for c in cases if c["template"] == name)
        print(f"{name}: {given} conversations rendered")
        assert given > 3
    args.out.write_text(json.dumps({"templates": TEMPLATES, "cases": cases}, ensure_ascii=False, indent=0), encoding="utf8")
    print(f"{args.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    try:
        main()
    except jinja2.exceptions.TemplateSyntaxError as error:
        sys.exit(f"bad template: {error}")
