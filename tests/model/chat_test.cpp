// Chat templates against goldens of transformers (tests/golden/make_chat_goldens.py), and what is
// refused.
#include <gtest/gtest.h>

#include <chrono>

#include "io/json.h"
#include "model/chat_template.h"
#include "neap/error.h"
#include "neap/tokenizer.h"

namespace neap {
namespace {

const std::string kGoldens = std::string(NEAP_GOLDEN_DIR) + "/tokenizers/";

// A tokenizer that knows <s> and </s>, and has this template.
Tokenizer with_template(const std::string& source) {
  const Json tokenizer = {
      {"added_tokens",
       {{{"id", 1}, {"content", "<s>"}, {"special", true}},
        {{"id", 2}, {"content", "</s>"}, {"special", true}}}},
      {"model", {{"type", "BPE"}, {"vocab", {{"a", 0}}}, {"merges", Json::array()}}}};
  const Json config = {{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"chat_template", source}};
  return Tokenizer::from_json(tokenizer.dump(), "tokenizer.json", config.dump());
}

std::string render(const std::string& source, const ChatMembers& variables = {}) {
  return render_chat_template(source, variables);
}

ErrorCode code_of(const std::string& source) {
  try {
    render(source);
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << source << " was rendered";
  return ErrorCode::io;
}

TEST(Chat, ConversationsEqualThoseOfTransformers) {
  const Json golden = parse_json(read_text_file(kGoldens + "chat.json"), "chat.json");
  std::size_t rendered = 0, refused = 0;
  for (const Json& c : golden["cases"]) {
    const Tokenizer tokenizer =
        with_template(golden["templates"][c["template"].get<std::string>()].get<std::string>());
    std::vector<ChatMessage> messages;
    for (const Json& message : c["messages"])
      messages.push_back({message["role"], message["content"]});
    const bool prompt = c["add_generation_prompt"];
    if (c["text"].is_null()) {
      ++refused;
      EXPECT_THROW(render_chat(tokenizer, messages, prompt), Error) << c.dump();
    } else {
      ++rendered;
      EXPECT_EQ(render_chat(tokenizer, messages, prompt), c["text"].get<std::string>()) << c.dump();
    }
  }
  EXPECT_GT(rendered, 100u);
  EXPECT_GT(refused, 10u);
}

TEST(Chat, BytesThatAreNoTextBecomeReplacements) {
  const ChatMessage message{"user",
                            "a\xFF"
                            "b"};
  EXPECT_EQ(render_chat(with_template("{{ messages[0].content }}"), {&message, 1}, false),
            "a\uFFFDb");
}

TEST(Chat, NoTemplateIsUnsupported) {
  try {
    render_chat(with_template(""), {}, false);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported);
  }
}

TEST(Chat, WhatIsNotImplementedIsRefusedBeforeAnythingIsRendered) {
  for (const char* source : {"{% include 'x' %}",
                             "{% call f() %}{% endcall %}",
                             "{% filter upper %}a{% endfilter %}",
                             "{{ 1.5 }}",
                             "{% raw %}{% endraw %}",
                             "{{ a ** b }}",
                             "{{ 'x",
                             "{{ x",
                             "{% if x %}",
                             "{% endif %}",
                             "{# x",
                             "{% for a in b recursive %}{% endfor %}",
                             "{{ f(*x) }}",
                             "{{ a < b < c }}",
                             "{{ '\\N{DASH}' }}",
                             "{% if false %}{% no_such_tag %}{% endif %}",
                             "{{ a b }}",
                             "{% set x %}",
                             "{{ x[1:2:3:4] }}",
                             "{{ }}"}) {
    EXPECT_EQ(code_of(source), ErrorCode::unsupported) << source;
  }
}

TEST(Chat, WhatIsNotImplementedIsRefusedWhereItIsReached) {
  for (const char* source :
       {"{{ 'x' | no_such_filter }}", "{{ 'x' is no_such_test }}", "{{ 'x'.title() }}",
        "{{ [1, 2] }}", "{{ {'a': 1} }}", "{{ '%s' % 'x' }}", "{{ 'é' | upper }}",
        "{{ 'x'.strip }}", "{{ strftime_now('%Q') }}", "{{ 1 / 2 }}"}) {
    EXPECT_EQ(code_of(source), ErrorCode::unsupported) << source;
    EXPECT_EQ(render(std::string("{% if false %}") + source + "{% endif %}"), "");
  }
}

TEST(Chat, WhatTheTemplateItselfRefusesIsAnErrorOfTheConversation) {
  for (const char* source :
       {"{{ raise_exception('no') }}", "{{ x.y }}", "{{ x + 'a' }}", "{{ 'a' + 1 }}", "{{ f() }}",
        "{{ 1 // 0 }}", "{% for a in 3 %}{% endfor %}", "{{ 'a' < 1 }}", "{{ range(1000000) }}",
        "{% set a, b = [1] %}", "{{ 1 in 'x' }}"}) {
    EXPECT_EQ(code_of(source), ErrorCode::data) << source;
  }
}

TEST(Chat, NoTemplateEatsTheMachine) {
  std::string nested = "{{ ", deep;
  for (int i = 0; i < 100000; ++i) nested += "(";
  for (int i = 0; i < 100000; ++i) deep += "{% if x %}";
  for (const std::string& source :
       {nested, deep, std::string(100000, '{'),
        std::string("{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(99) %}{% set ns.s = "
                    "ns.s + ns.s %}{% endfor %}"),
        std::string("{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) "
                    "%}{% endfor %}{% endfor %}{% endfor %}"),
        std::string("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
        std::string("{{ 'aaaa' * 2000000000 }}"),
        std::string("{{ ('a' * 10000000).replace('a', 'b' * 10000000) }}")}) {
    EXPECT_EQ(code_of(source), ErrorCode::unsupported) << source.substr(0, 80);
  }
}

std::string repeated(const std::string& part, int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += part;
  return text;
}

// Each is quick, small and refused, whatever a machine could do with it.
TEST(Chat, NoTemplateDoesMoreWorkThanItsSyntaxShows) {
  const auto loops = [](const std::string& start, int rounds, const std::string& body) {
    return "{% set ns = namespace(l=" + start + ") %}{% for i in range(" + std::to_string(rounds) + ") %}" + body +
           "{% endfor %}";
  };
  const std::string twins = loops("[1]", 40, "{% set ns.l = [ns.l, ns.l] %}");
  const std::string text = "{% set t = 'a' * 30000000 %}";
  for (const std::string& source : {
           loops("[1]", 90'000, "{% set ns.l = [ns.l] %}"),
           loops("[1]", 90'000, "{% set ns.l = {'a': ns.l} %}"),
           loops("[1]", 34, "{% set ns.l = ns.l + ns.l %}"),
           twins + "{{ ns.l == ns.l }}",
           twins + "{{ ns.l in [ns.l] }}",
           twins + "{{ [ns.l] | select('eq', ns.l) | list | length }}",
           twins + "{{ ns.l | tojson }}",
           twins + "{{ ns.l | tojson(indent=16) }}",
           loops("[1]", 90'000, "{% set ns.l = ns.l + ['" + std::string(100'000, 'a') + "' ~ i] %}"),
           text + "{% for i in range(90000) %}{% set u = t ~ i %}{% endfor %}",
           text + "{% for i in range(90000) %}{% set u = t | length %}{% endfor %}",
           text + "{% for i in range(90000) %}{% set u %}{{ t }}{% endset %}{% endfor %}",
           text + "{% set s = range(99999) | list %}{{ s | select('in', [t, t]) | list | length }}"
                  "{{ (['a'] + s) | map('string') | select('in', t) | list | length }}",
           text + "{{ t | list | length }}",
           text + "{{ t.split('a') | length }}",
           text + "{{ t.strip('b' * 30000000 ~ 'a') }}",
           text + "{% for i in range(90000) %}{{ t ~ 'b' in t ~ t }}{% endfor %}",
           text + "{{ [t, t, t, t, t, t, t, t, t] | map('replace', 'a' * 4000 ~ 'b', '') | join }}",
           text + "{% for i in range(90000) %}{% set u = t[::-1] %}{% endfor %}",
           text + "{% set ns = namespace(l=[]) %}{% for i in range(90000) %}{% set ns.l = ns.l + [{'a': 1}[t]] %}{% endfor %}",
           "{{ 'a' | map('map'" + repeated(", 'map'", 200'000) + ") }}",
           "{% macro f() %}" + repeated("{% if true %}", 90) + "{{ f() }}" + repeated("{% endif %}", 90) +
               "{% endmacro %}{{ f() }}",
       }) {
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_EQ(code_of(source), ErrorCode::unsupported) << source.substr(0, 200);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20)) << source.substr(0, 200);
  }
}

TEST(Chat, ExpressionsMayBeLongButNotEndless) {
  const auto chain = [](const std::string& first, const std::string& link, int times) {
    return "{{ " + first + repeated(link, times) + " }}";
  };
  EXPECT_EQ(render(chain("1", " + 1", 500)), "501");
  for (const std::string& source :
       {chain("1", " + 1", 200'000), chain("'a'", " ~ 'a'", 200'000), chain("x", ".x", 200'000),
        chain("x", "[0]", 200'000), chain("f", "()", 200'000), chain("'a'", " | trim", 200'000),
        chain("'a'", " is string", 200'000), chain("'a'", " if true", 200'000),
        "{% macro f() %}" + chain("f()", " + 1", 900) + "{% endmacro %}{{ f() }}"}) {
    EXPECT_EQ(code_of(source), ErrorCode::unsupported) << source.substr(0, 80);
  }
}

TEST(Chat, LongConversationsAreRendered) {
  ChatList messages;
  for (int i = 0; i < 2000; ++i) {
    messages.emplace_back(ChatMembers{{"role", i % 2 == 0 ? "user" : "assistant"}, {"content", std::string(2000, 'a')}});
  }
  const std::string text = render(
      "{% for m in messages %}{% if (m.role == 'user') == (loop.index0 % 2 == 0) and m.role in ['user', 'assistant'] and "
      "messages | length > 3 and messages[loop.index0 - 1] is defined and m.content[-1] == 'a' %}{{ m.role + '\n' + "
      "m.content | trim + '\n' }}{% endif %}{% endfor %}{{ messages[1:] | length }}{{ messages == messages }}",
      {{"messages", messages}});
  EXPECT_GT(text.size(), 2000u * 2000);
}

TEST(Chat, SlicesAreThoseOfPython) {
  EXPECT_EQ(render("{{ 'a\u00e9bc'[1:3] }} {{ 'a\u00e9bc'[::-1] }} {{ 'abcdef'[::4] }} {{ 'abcdef'[-2::-2] }} "
                   "{{ 'abc'[5:] }} {{ 'abc'[::99] }} {{ 'abc'[::-99] }} {{ 'abc'[2:1] }} {{ 'a\u00e9'[-1] }} {{ 'ab'[2] }} "
                   "{{ [1, 2, 3][::-2] | join }} {{ 'ab'[-3] }}"),
            "\u00e9b cb\u00e9a ae eca  a c  \u00e9  31 ");
}

}  // namespace
}  // namespace neap
