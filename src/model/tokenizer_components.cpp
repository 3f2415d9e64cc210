#include "model/tokenizer_components.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "model/bpe.h"
#include "model/utf8.h"
#include "model/utf8_classes.h"

namespace neap {
namespace {

std::string replace(std::string_view text, const Pattern& pattern, std::string_view content) {
  std::vector<Span> matches;
  pattern.find(text, matches);
  std::string out;
  std::size_t done = 0;
  for (const Span& match : matches) {
    out.append(text.substr(done, match.begin - done)).append(content);
    done = match.end;
  }
  return out.append(text.substr(done));
}

// Rewrites each word with rewrite(word, is the first, out).
template <class Rewrite>
void rewrite_words(Words& words, Rewrite rewrite) {
  std::string text;
  for (Span& span : words.spans) {
    const std::size_t begin = text.size();
    rewrite(words.text.substr(span.begin, span.end - span.begin), &span == words.spans.data(),
            text);
    span = {begin, text.size()};
  }
  words.storage = std::move(text);
  words.text = words.storage;
}

void apply_metaspace(const PreTokenizerStep& step, bool first, Words& words) {
  rewrite_words(words, [&](std::string_view word, bool first_word, std::string& out) {
    const bool has =
        word.front() == ' ' || word.substr(0, step.replacement.size()) == step.replacement;
    const bool wanted = step.prepend == PreTokenizerStep::Prepend::always ||
                        (step.prepend == PreTokenizerStep::Prepend::first && first && first_word);
    if (wanted && !has) out += step.replacement;
    for (const char c : word) {
      if (c == ' ') {
        out += step.replacement;
      } else {
        out += c;
      }
    }
  });
}

void apply(const PreTokenizerStep& step, bool first, Words& words) {
  switch (step.kind) {
    case PreTokenizerStep::Kind::split:
      split_spans(words.text, *step.pattern, step.behavior, step.invert, words.spans);
      break;
    case PreTokenizerStep::Kind::prefix_space:
      rewrite_words(words, [](std::string_view word, bool, std::string& out) {
        if (word.front() != ' ') out += ' ';
        out += word;
      });
      break;
    case PreTokenizerStep::Kind::metaspace:
      apply_metaspace(step, first, words);
      break;
  }
}

// A token that is not wholly in GPT-2's alphabet (an added one) stands for itself.
std::string bytes_of_alphabet(const std::string& token) {
  std::string bytes;
  for (std::size_t at = 0; at < token.size();) {
    // After other decoders a token may hold the bytes of a cut character.
    const bool lead = static_cast<unsigned char>(token[at]) < 0x80 ||
                      is_valid_utf8(std::string_view(token).substr(at, 2));
    const CodePoint c = lead ? code_point_at(token, at) : CodePoint{0xFFFD, 1};
    const auto byte = byte_of_char(c.value);
    if (!byte) return token;
    bytes.push_back(static_cast<char>(*byte));
    at += c.bytes;
  }
  return bytes;
}

std::optional<char> byte_of_fallback(const std::string& token) {
  if (token.size() != 6 || token.compare(0, 3, "<0x") != 0 || token[5] != '>') return std::nullopt;
  unsigned value = 0;
  const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, value, 16);
  if (error != std::errc() || end != token.data() + 5) return std::nullopt;
  return static_cast<char>(value);
}

// Bytes in a row become one token.
std::vector<std::string> join_bytes(std::vector<std::string> tokens) {
  std::vector<std::string> joined;
  bool in_bytes = false;
  for (std::string& token : tokens) {
    const auto byte = byte_of_fallback(token);
    if (byte && in_bytes) {
      joined.back().push_back(*byte);
    } else {
      joined.push_back(byte ? std::string(1, *byte) : std::move(token));
    }
    in_bytes = byte.has_value();
  }
  return joined;
}

std::string strip(std::string_view token, const DecoderStep& step) {
  const std::string_view content = step.content;
  for (std::size_t i = 0; i < step.start && token.substr(0, content.size()) == content; ++i) {
    token.remove_prefix(content.size());
  }
  for (std::size_t i = 0; i < step.stop && token.size() >= content.size() &&
                          token.substr(token.size() - content.size()) == content;
       ++i) {
    token.remove_suffix(content.size());
  }
  return std::string(token);
}

std::string join(const std::vector<std::string>& tokens, std::string_view between) {
  std::string text;
  for (const std::string& token : tokens) {
    if (&token != tokens.data()) text += between;
    text += token;
  }
  return text;
}

std::string spaces_of_metaspace(const std::string& token, const DecoderStep& step, bool first) {
  return replace(token, *step.pattern, first && step.drop_first ? "" : " ");
}

void apply(const DecoderStep& step, std::vector<std::string>& tokens) {
  switch (step.kind) {
    case DecoderStep::Kind::byte_level:
      for (std::string& token : tokens) token = bytes_of_alphabet(token);
      tokens = {join(tokens, "")};
      break;
    case DecoderStep::Kind::byte_fallback:
      tokens = join_bytes(std::move(tokens));
      break;
    case DecoderStep::Kind::fuse:
      tokens = {join(tokens, "")};
      break;
    case DecoderStep::Kind::replace:
      for (std::string& token : tokens) token = replace(token, *step.pattern, step.content);
      break;
    case DecoderStep::Kind::strip:
      for (std::string& token : tokens) token = strip(token, step);
      break;
    case DecoderStep::Kind::metaspace:
      for (std::string& token : tokens) {
        token = spaces_of_metaspace(token, step, &token == tokens.data());
      }
      break;
  }
}

}  // namespace

std::string normalize(const std::vector<NormalizerStep>& steps, std::string_view text) {
  std::string out(text);
  for (const NormalizerStep& step : steps) {
    switch (step.kind) {
      case NormalizerStep::Kind::nfc:
        out = normalize_nfc(out);
        break;
      case NormalizerStep::Kind::prepend:
        if (!out.empty()) out.insert(0, step.content);
        break;
      case NormalizerStep::Kind::replace:
        out = replace(out, *step.pattern, step.content);
        break;
    }
  }
  return out;
}

void pre_tokenize(const std::vector<PreTokenizerStep>& steps, std::string_view text, bool first,
                  Words& words) {
  words.text = text;
  words.spans.assign(text.empty() ? 0 : 1, {0, text.size()});
  for (const PreTokenizerStep& step : steps) apply(step, first, words);
}

std::string decode_tokens(const std::vector<DecoderStep>& steps, std::vector<std::string> tokens) {
  for (const DecoderStep& step : steps) apply(step, tokens);
  return join(tokens, steps.empty() ? " " : "");
}

}  // namespace neap
