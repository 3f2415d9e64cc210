// The splits of GPT-2, Llama 3 and Qwen2 as scanners: a table for ASCII, utf8proc for the rest.
#include <algorithm>
#include <array>
#include <cstdint>

#include "model/pretokenize.h"
#include "model/utf8.h"
#include "model/utf8_classes.h"

namespace neap {

const std::string_view kGpt2Regex =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
const std::string_view kLlama3Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const std::string_view kQwen2Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

namespace {

enum class Class : std::uint8_t { letter, number, space, newline, other, end };

Class classify(char32_t c) {
  if (c == '\r' || c == '\n') return Class::newline;
  if (is_space(c)) return Class::space;
  if (is_letter(c)) return Class::letter;
  return is_number(c) ? Class::number : Class::other;
}

const std::array<Class, 128> kAscii = [] {
  std::array<Class, 128> classes{};
  for (char32_t c = 0; c < 128; ++c) classes[c] = classify(c);
  return classes;
}();

struct Next {
  Class type;
  std::size_t bytes;
};

bool blank(Class type) { return type == Class::space || type == Class::newline; }

class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  Next look(std::size_t at) const {
    if (at >= text_.size()) return {Class::end, 0};
    const auto byte = static_cast<unsigned char>(text_[at]);
    if (byte < 0x80) return {kAscii[byte], 1};
    const CodePoint c = code_point_at(text_, at);
    return {classify(c.value), c.bytes};
  }
  bool is(std::size_t at, char c) const { return at < text_.size() && text_[at] == c; }

  // The end of the longest run of `type` from `at`, at most `most` code points.
  std::size_t run(std::size_t at, Class type, std::size_t most = std::string_view::npos) const {
    for (std::size_t n = 0; n < most; ++n) {
      const Next next = look(at);
      if (next.type != type) break;
      at += next.bytes;
    }
    return at;
  }

  // The end of 's|'t|'re|'ve|'m|'ll|'d at `at`, or `at`. Folding adds the upper case and the long s
  // (U+017F), which folds to s.
  std::size_t contraction(std::size_t at, bool fold) const {
    if (!is(at, '\'') || at + 1 >= text_.size()) return at;
    const auto letter = [&](std::size_t i) {
      const char c = i < text_.size() ? text_[i] : '\0';
      return fold && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    };
    const char first = letter(at + 1), second = letter(at + 2);
    if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
    if ((first == 'r' || first == 'v') && second == 'e') return at + 3;
    if (first == 'l' && second == 'l') return at + 3;
    return fold && text_.substr(at + 1, 2) == "\xC5\xBF" ? at + 3 : at;
  }

  // \s+(?!\S)|\s+ at `at`, where white space stands: the last blank before something else stays
  // behind for it, unless it is the only one.
  std::size_t blanks(std::size_t at) const {
    std::size_t end = at, before_last = at;
    for (Next next = look(end); blank(next.type); next = look(end)) {
      before_last = end;
      end += next.bytes;
    }
    return end == text_.size() || before_last == at ? end : before_last;
  }

  // \s*[\r\n]+ at `at`, or `at`: up to the last newline of the white space.
  std::size_t through_newline(std::size_t at) const {
    std::size_t end = at, result = at;
    for (Next next = look(end); blank(next.type); next = look(end)) {
      end += next.bytes;
      if (next.type == Class::newline) result = end;
    }
    return result;
  }

 private:
  std::string_view text_;
};

// Words that follow one another through the whole text: end_of(scanner, begin) gives the end.
template <class EndOf>
void find_words(std::string_view text, std::vector<Span>& matches, EndOf end_of) {
  const Scanner scanner(text);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = end_of(scanner, at);
    matches.push_back({at, end});
    at = end;
  }
}

std::size_t gpt2_word_end(const Scanner& scanner, std::size_t at) {
  if (const std::size_t end = scanner.contraction(at, /*fold=*/false); end != at) return end;
  const std::size_t body = at + (scanner.is(at, ' ') ? 1 : 0);
  const Next next = scanner.look(body);
  if (next.type == Class::end || blank(next.type)) return scanner.blanks(at);
  return scanner.run(body, next.type);
}

std::size_t llama3_word_end(const Scanner& scanner, std::size_t at, std::size_t digits) {
  if (const std::size_t end = scanner.contraction(at, /*fold=*/true); end != at) return end;
  const Next first = scanner.look(at);
  if (first.type == Class::letter) return scanner.run(at, Class::letter);
  if (first.type == Class::number) return scanner.run(at, Class::number, digits);
  if (first.type != Class::newline) {
    const std::size_t body = at + first.bytes;
    if (const std::size_t end = scanner.run(body, Class::letter); end != body) return end;
  }
  const std::size_t body = at + (scanner.is(at, ' ') ? 1 : 0);
  if (const std::size_t end = scanner.run(body, Class::other); end != body) {
    return scanner.run(end, Class::newline);
  }
  if (const std::size_t end = scanner.through_newline(at); end != at) return end;
  return scanner.blanks(at);
}

class Gpt2Pattern final : public Pattern {
 public:
  void find(std::string_view text, std::vector<Span>& matches) const override {
    find_words(text, matches, gpt2_word_end);
  }
};

class Llama3Pattern final : public Pattern {
 public:
  explicit Llama3Pattern(int digits) : digits_(static_cast<std::size_t>(digits)) {}
  void find(std::string_view text, std::vector<Span>& matches) const override {
    find_words(text, matches, [this](const Scanner& scanner, std::size_t at) {
      return llama3_word_end(scanner, at, digits_);
    });
  }

 private:
  std::size_t digits_;
};

class DigitPattern final : public Pattern {
 public:
  void find(std::string_view text, std::vector<Span>& matches) const override {
    for (std::size_t at = 0; at < text.size();) {
      const CodePoint c = code_point_at(text, at);
      if (is_numeric(c.value)) matches.push_back({at, at + c.bytes});
      at += c.bytes;
    }
  }
};

class LiteralPattern final : public Pattern {
 public:
  explicit LiteralPattern(std::string literal) : literal_(std::move(literal)) {}
  void find(std::string_view text, std::vector<Span>& matches) const override {
    for (std::size_t at = text.find(literal_); at != text.npos;
         at = text.find(literal_, at + literal_.size())) {
      matches.push_back({at, at + literal_.size()});
    }
  }

 private:
  std::string literal_;
};

}  // namespace

std::unique_ptr<Pattern> make_gpt2_pattern() { return std::make_unique<Gpt2Pattern>(); }
std::unique_ptr<Pattern> make_llama3_pattern(int digits) {
  return std::make_unique<Llama3Pattern>(digits);
}
std::unique_ptr<Pattern> make_digit_pattern() { return std::make_unique<DigitPattern>(); }
std::unique_ptr<Pattern> make_literal_pattern(std::string text) {
  return std::make_unique<LiteralPattern>(std::move(text));
}

std::unique_ptr<Pattern> make_split_pattern(const std::string& regex, const std::string& file,
                                            const std::string& place) {
  if (regex == kGpt2Regex) return make_gpt2_pattern();
  if (regex == kLlama3Regex) return make_llama3_pattern(3);
  if (regex == kQwen2Regex) return make_llama3_pattern(1);
  return make_regex_pattern(regex, file, place);
}

}  // namespace neap
