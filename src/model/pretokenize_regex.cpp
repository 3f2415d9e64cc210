// tokenizer.json's regular expressions are Oniguruma's (Ruby syntax); PCRE2 runs them. Only
// constructs that both read alike go through, the rest is refused: a split that is almost right is
// wrong.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>

#include "model/pretokenize.h"
#include "model/utf8.h"
#include "model/utf8_classes.h"
#include "neap/error.h"

namespace neap {
namespace {

constexpr std::string_view kCategories[] = {
    "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M", "Mn", "Mc", "Me", "N",  "Nd", "Nl", "No", "P", "Pc",
    "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S", "Sm", "Sc", "Sk", "So", "Z",  "Zs", "Zl", "Zp"};

// White_Space, as a class has it. PCRE2's own \s lacks U+0085 and has U+180E.
constexpr const char* kSpaces =
    R"(\x{9}-\x{D}\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";

class Translator {
 public:
  Translator(std::string_view regex, const std::string& file, const std::string& place)
      : regex_(regex), file_(file), place_(place) {}

  std::string run() {
    while (at_ < regex_.size()) item();
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw Error(ErrorCode::unsupported, what + " in the regular expression " + std::string(regex_),
                {.file = file_, .tensor = place_, .offset = {}, .expected = {}, .found = {}});
  }
  bool next_is(std::string_view text) const { return regex_.substr(at_, text.size()) == text; }
  bool take(std::string_view text) {
    if (!next_is(text)) return false;
    at_ += text.size();
    return true;
  }
  char peek() const { return at_ < regex_.size() ? regex_[at_] : '\0'; }

  void item() {
    const char c = peek();
    if (c == '(') return group();
    if (c == '[') return char_class();
    if (c == '\\') return static_cast<void>(escape(/*in_class=*/false));
    if (c == '?' || c == '*' || c == '+' || c == '{') return quantifier();
    if (c == '^' || c == '$') refuse("an anchor");
    if (c == ')' && !folding_.empty()) folding_.pop_back();
    if (take(".")) {
      out_ += "[^\\n]";
      return;
    }
    literal();
  }

  bool folding() const { return !folding_.empty() && folding_.back(); }

  // Under (?i:..) Oniguruma also equates a letter with several ("st" and U+FB06): only letters for
  // which it cannot pass.
  void literal() {
    const CodePoint c = code_point_at(regex_, at_);
    if (folding()) {
      if (c.value >= 0x80) refuse("a non-ASCII character under (?i:");
      for (const char* pair : {"ss", "st", "ff", "fi", "fl"}) {
        if (next_is(pair)) refuse("a ligature's letters under (?i:");
      }
    }
    out_ += regex_.substr(at_, c.bytes);
    at_ += c.bytes;
  }

  void group() {
    for (const char* opening : {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"}) {
      if (!next_is(opening)) continue;
      folding_.push_back(folding() || std::string_view(opening) == "(?i:");
      take(opening);
      out_ += opening;
      return;
    }
    if (next_is("(?") || next_is("(*")) refuse("a group of another kind");
    take("(");
    folding_.push_back(folding());
    out_ += "(?:";
  }

  // In Ruby's syntax {n}? is no lazy and {n,m}+ no possessive quantifier.
  void quantifier() {
    if (!take("{")) {
      out_ += peek();
      ++at_;
    } else {
      const std::size_t close = regex_.find('}', at_);
      const std::string_view bounds = regex_.substr(at_, close == regex_.npos ? 0 : close - at_);
      const bool digits = !bounds.empty() && bounds[0] != ',' &&
                          bounds.find_first_not_of("0123456789,") == bounds.npos &&
                          std::count(bounds.begin(), bounds.end(), ',') <= 1;
      if (!digits) refuse("a brace that bounds nothing");
      out_ += '{';
      out_ += bounds;
      out_ += '}';
      at_ = close + 1;
      if (peek() == '?' || peek() == '+') refuse("a quantified quantifier");
      return;
    }
    if (peek() == '?' || peek() == '+') {
      out_ += peek();
      ++at_;
    }
    if (peek() == '?' || peek() == '*' || peek() == '+' || peek() == '{') {
      refuse("a quantified quantifier");
    }
  }

  void char_class() {
    take("[");
    out_ += '[';
    if (take("^")) out_ += '^';
    if (peek() == ']') refuse("an empty character class");
    bool may_start_range = false;
    while (peek() != ']') {
      if (at_ >= regex_.size()) refuse("an unclosed character class");
      if (peek() == '[' || next_is("&&")) refuse("a class inside a character class");
      if (next_is("-") && !next_is("-]")) {
        range(may_start_range);
        may_start_range = false;
      } else if (peek() == '\\') {
        may_start_range = escape(/*in_class=*/true);
      } else {
        if (peek() == '-') out_ += '\\';
        literal();
        may_start_range = true;
      }
    }
    take("]");
    out_ += ']';
  }

  // The "-b" of "a-b", or a '-' that opens the class.
  void range(bool has_start) {
    take("-");
    if (!has_start) {
      if (out_.back() != '[' && out_.back() != '^') refuse("an ambiguous '-'");
      out_ += "\\-";
      return;
    }
    if (folding()) refuse("a range under (?i:");
    out_ += '-';
    if (peek() == '[' || peek() == '-') refuse("an ambiguous '-'");
    if (peek() == '\\') {
      if (!escape(/*in_class=*/true)) refuse("an ambiguous '-'");
    } else {
      literal();
    }
  }

  // True if it stands for one character.
  bool escape(bool in_class) {
    take("\\");
    const char c = peek();
    at_ += 1;
    const std::string open = in_class ? "" : "[", close = in_class ? "" : "]";
    if (c == 's') return out_ += open + kSpaces + close, false;
    if (c == 'S' && !in_class) return out_ += std::string("[^") + kSpaces + "]", false;
    if (c == 'd') return out_ += open + category("Nd") + close, false;
    if (c == 'p' || (c == 'P' && !in_class)) {
      out_ += (in_class ? "" : c == 'p' ? "[" : "[^") + category(property_name()) + close;
      return false;
    }
    if (c == 'r' || c == 'n' || c == 't' || c == 'f') return out_ += {'\\', c}, true;
    if (c == 'x' || c == 'u') return out_ += hex(c), true;
    const bool punctuation = c > ' ' && c < 0x7F && !is_letter(static_cast<unsigned char>(c)) &&
                             !is_number(static_cast<unsigned char>(c));
    if (punctuation || c == ' ') return out_ += {'\\', c}, true;
    refuse(std::string("the escape \\") + c);
  }

  std::string_view property_name() {
    if (!take("{")) refuse("a property without braces");
    const std::size_t close = regex_.find('}', at_);
    if (close == regex_.npos) refuse("a property without braces");
    const std::string_view name = regex_.substr(at_, close - at_);
    at_ = close + 1;
    if (std::find(std::begin(kCategories), std::end(kCategories), name) == std::end(kCategories)) {
      refuse("the property " + std::string(name));
    }
    return name;
  }

  // Items of a character class: the property as PCRE2 knows it and what Unicode 15 and 16 added.
  static std::string category(std::string_view name) {
    std::string items = "\\p{" + std::string(name) + "}";
    for (const NewRange& range : ranges_since_unicode_14()) {
      if (std::string_view(range.category).substr(0, name.size()) != name) continue;
      char text[40];
      std::snprintf(text, sizeof text, "\\x{%X}-\\x{%X}", static_cast<unsigned>(range.first),
                    static_cast<unsigned>(range.last));
      items += text;
    }
    return items;
  }

  // \xHH, \x{H..} and \uHHHH.
  std::string hex(char kind) {
    const bool braces = kind == 'x' && take("{");
    const std::size_t wanted = kind == 'u' ? 4 : 2;
    std::size_t end = at_;
    while (end < regex_.size() && std::isxdigit(static_cast<unsigned char>(regex_[end])) &&
           (braces || end - at_ < wanted)) {
      ++end;
    }
    const std::string digits(regex_.substr(at_, end - at_));
    at_ = end;
    if (braces ? !take("}") || digits.empty() : digits.size() != wanted) refuse("a bad \\x or \\u");
    return "\\x{" + digits + "}";
  }

  std::string_view regex_;
  const std::string& file_;
  const std::string& place_;
  std::size_t at_ = 0;
  std::string out_;
  std::vector<bool> folding_;  // one per open group
};

template <auto Free>
struct Release {
  template <class T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Code = std::unique_ptr<pcre2_code, Release<pcre2_code_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Release<pcre2_match_data_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Release<pcre2_match_context_free>>;
using JitStack = std::unique_ptr<pcre2_jit_stack, Release<pcre2_jit_stack_free>>;

std::string message_of(int error) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(error, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

class RegexPattern final : public Pattern {
 public:
  RegexPattern(const std::string& regex, const std::string& file, const std::string& place)
      : regex_(regex) {
    const std::string translated = Translator(regex, file, place).run();
    int error = 0;
    PCRE2_SIZE offset = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                              PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr));
    if (!code_) {
      throw Error(ErrorCode::format, "bad regular expression " + regex + ": " + message_of(error),
                  {.file = file, .tensor = place, .offset = {}, .expected = {}, .found = {}});
    }
    std::uint32_t matches_empty = 0;
    pcre2_pattern_info(code_.get(), PCRE2_INFO_MATCHEMPTY, &matches_empty);
    if (matches_empty != 0) {
      throw Error(ErrorCode::unsupported, "the regular expression " + regex + " may match nothing",
                  {.file = file, .tensor = place, .offset = {}, .expected = {}, .found = {}});
    }
    pcre2_jit_compile(code_.get(),
                      PCRE2_JIT_COMPLETE);  // where there is no JIT, the interpreter runs
  }

  void find(std::string_view text, std::vector<Span>& matches) const override {
    const MatchData data(pcre2_match_data_create(1, nullptr));
    for (std::size_t at = 0; at < text.size();) {
      int found = match(text, at, data.get(), nullptr);
      if (found == PCRE2_ERROR_JIT_STACKLIMIT) {  // the default is 32 KB of the machine's stack
        const MatchContext context(pcre2_match_context_create(nullptr));
        const JitStack stack(pcre2_jit_stack_create(32 << 10, 64 << 20, nullptr));
        pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
        found = match(text, at, data.get(), context.get());
      }
      if (found == PCRE2_ERROR_NOMATCH) return;
      if (found < 0) {
        throw Error(ErrorCode::data, "the tokenizer's regular expression " + regex_ +
                                         " fails on this text: " + message_of(found));
      }
      const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(data.get());
      matches.push_back({bounds[0], bounds[1]});
      at = bounds[1];
    }
  }

 private:
  int match(std::string_view text, std::size_t at, pcre2_match_data* data,
            pcre2_match_context* context) const {
    return pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                       PCRE2_NO_UTF_CHECK, data, context);
  }

  std::string regex_;
  Code code_;
};

}  // namespace

std::unique_ptr<Pattern> make_regex_pattern(const std::string& regex, const std::string& file,
                                            const std::string& place) {
  return std::make_unique<RegexPattern>(regex, file, place);
}

}  // namespace neap
