#include <algorithm>
#include <charconv>

#include "model/chat_syntax.h"
#include "model/chat_text.h"
#include "model/utf8.h"

namespace neap {
namespace {

bool starts(std::string_view text, std::size_t at, std::string_view what) {
  return text.substr(at, what.size()) == what;
}
bool name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool digit(char c) { return c >= '0' && c <= '9'; }

std::string with_plain_newlines(std::string_view source) {
  std::string out;
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r' && i + 1 < source.size() && source[i + 1] == '\n') continue;
    out += source[i] == '\r' ? '\n' : source[i];
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  std::vector<ChatSegment> run() {
    while (at_ < source_.size()) {
      const std::size_t tag = next_tag();
      std::string text = source_.substr(at_, tag - at_);
      if (tag == source_.size()) {
        add_text(std::move(text));
        break;
      }
      const char kind = source_[tag + 1];
      const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
      const bool line_starts = at_ == 0 || source_[at_ - 1] == '\n';
      if (sign == '-') {
        text.resize(python_strip(text, false, true).size());
      } else if (sign != '+' && kind != '{') {
        strip_indent(text, line_starts);
      }
      add_text(std::move(text));
      at_ = tag + (sign == '-' || sign == '+' ? 3 : 2);
      kind == '#' ? skip_comment() : add_tag(kind);
    }
    return std::move(segments_);
  }

 private:
  std::size_t next_tag() const {
    for (std::size_t at = at_; at + 1 < source_.size(); ++at) {
      const char next = source_[at + 1];
      if (source_[at] == '{' && (next == '{' || next == '%' || next == '#')) return at;
    }
    return source_.size();
  }

  // lstrip_blocks: the blanks before a block on its line.
  static void strip_indent(std::string& text, bool line_starts) {
    const std::size_t newline = text.rfind('\n');
    if (newline == text.npos && !line_starts) return;
    const std::size_t line = newline == text.npos ? 0 : newline + 1;
    if (python_strip(std::string_view(text).substr(line), true, true).empty()) text.resize(line);
  }

  void add_text(std::string text) {
    if (!text.empty()) {
      segments_.push_back({ChatSegment::Kind::text, std::move(text), {}});
    }
  }

  // Takes the end of a tag: "-%}" and all white space, "%}" and a newline, "+%}", "}}", "-}}".
  bool take_end(std::string_view end) {
    const bool minus = starts(source_, at_, "-") && starts(source_, at_ + 1, end);
    const bool plus = end != "}}" && starts(source_, at_, "+") && starts(source_, at_ + 1, end);
    if (!minus && !plus && !starts(source_, at_, end)) return false;
    at_ += end.size() + (minus || plus ? 1 : 0);
    if (minus) {
      const std::string_view rest = std::string_view(source_).substr(at_);
      at_ = source_.size() - python_strip(rest, true, false).size();
    } else if (!plus && end != "}}" && starts(source_, at_, "\n")) {
      ++at_;
    }
    return true;
  }

  void skip_comment() {
    while (at_ < source_.size()) {
      if (take_end("#}")) return;
      ++at_;
    }
    chat_unsupported("a comment without an end");
  }

  void add_tag(char kind) {
    const bool output = kind == '{';
    const std::string_view end = output ? "}}" : "%}";
    ChatSegment segment{output ? ChatSegment::Kind::output : ChatSegment::Kind::statement, {}, {}};
    std::size_t open = 0;  // brackets; inside them a "}}" is two of those
    while (true) {
      while (at_ < source_.size() && is_python_space(code_point_at(source_, at_).value)) {
        at_ += code_point_at(source_, at_).bytes;
      }
      if (at_ >= source_.size()) chat_unsupported("a tag without an end");
      if (open == 0 && take_end(end)) break;
      segment.tokens.push_back(token());
      const ChatToken& last = segment.tokens.back();
      if (last.kind != ChatToken::Kind::symbol) continue;
      if (last.text == "(" || last.text == "[" || last.text == "{") ++open;
      if ((last.text == ")" || last.text == "]" || last.text == "}") && open > 0) --open;
    }
    segment.tokens.emplace_back();
    segments_.push_back(std::move(segment));
  }

  ChatToken token() {
    const char c = source_[at_];
    if (name_start(c)) {
      const std::size_t begin = at_;
      while (at_ < source_.size() && (name_start(source_[at_]) || digit(source_[at_]))) ++at_;
      return {ChatToken::Kind::name, source_.substr(begin, at_ - begin), {}};
    }
    if (digit(c)) return number();
    if (c == '"' || c == '\'') return {ChatToken::Kind::literal, {}, string(c)};
    for (const char* symbol :
         {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
          "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ","}) {
      if (!starts(source_, at_, symbol)) continue;
      at_ += std::string_view(symbol).size();
      return {ChatToken::Kind::symbol, symbol, {}};
    }
    chat_unsupported(std::string("the character '") + c + "' in a tag");
  }

  ChatToken number() {
    std::int64_t value = 0;
    const char* const begin = source_.data() + at_;
    const char* const last = source_.data() + source_.size();
    const auto [end, error] = std::from_chars(begin, last, value);
    const bool more =
        end != last && (name_start(*end) || (*end == '.' && end + 1 != last && digit(end[1])));
    if (error != std::errc() || more) chat_unsupported("a number that is no plain integer");
    at_ += static_cast<std::size_t>(end - begin);
    return {ChatToken::Kind::literal, {}, value};
  }

  // With Python's escapes.
  std::string string(char quote) {
    std::string out;
    for (++at_; at_ < source_.size() && source_[at_] != quote; ++at_) {
      if (source_[at_] != '\\') {
        out += source_[at_];
        continue;
      }
      if (++at_ >= source_.size()) break;
      escape(out);
    }
    if (at_ >= source_.size()) chat_unsupported("a string without an end");
    ++at_;
    return out;
  }

  void escape(std::string& out) {
    static constexpr std::string_view kFrom = "\\'\"abfnrtv", kTo = "\\'\"\a\b\f\n\r\t\v";
    const char c = source_[at_];
    if (const std::size_t known = kFrom.find(c); known != kFrom.npos) {
      out += kTo[known];
    } else if (c == '\n') {
      // a line goes on
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const std::size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      std::uint32_t value = 0;
      const char* const begin = source_.data() + at_ + 1;
      if (at_ + 1 + digits > source_.size()) chat_unsupported("a bad escape");
      const auto [end, error] = std::from_chars(begin, begin + digits, value, 16);
      const bool bad = error != std::errc() || end != begin + digits || value > 0x10FFFF ||
                       (value >= 0xD800 && value < 0xE000);
      if (bad) chat_unsupported("a bad escape");
      append_utf8(out, value);
      at_ += digits;
    } else if (digit(c) || c == 'N') {
      chat_unsupported("an octal or named escape");
    } else {
      out += '\\';
      out += c;
    }
  }

  std::string source_;
  std::size_t at_ = 0;
  std::vector<ChatSegment> segments_;
};

}  // namespace

std::vector<ChatSegment> lex_chat_template(std::string_view source) {
  return Lexer(with_plain_newlines(source)).run();
}

}  // namespace neap
