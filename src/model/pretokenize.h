// Cutting text into the words that BPE merges inside of: the pre-tokenizers of tokenizer.json.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace neap {

struct Span {
  std::size_t begin = 0, end = 0;  // bytes
  bool operator==(const Span&) const = default;
};

// Finds the matches of a pattern. Immutable, so safe to use from several threads.
class Pattern {
 public:
  virtual ~Pattern() = default;
  // Appends the non-overlapping matches in valid UTF-8 text, leftmost first, none of them empty, as
  // offsets into `text`.
  virtual void find(std::string_view text, std::vector<Span>& matches) const = 0;
};

// The split of GPT-2 (Radford et al., 2019):
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// by hand. Matches everything.
std::unique_ptr<Pattern> make_gpt2_pattern();
extern const std::string_view kGpt2Regex;

// The split of Llama 3 (digits = 3) and of Qwen2 (digits = 1), by hand. Matches everything.
//   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|
//   \s*[\r\n]+|\s+(?!\S)|\s+
std::unique_ptr<Pattern> make_llama3_pattern(int digits);
extern const std::string_view kLlama3Regex, kQwen2Regex;

// Single numeric characters (Rust's char::is_numeric).
std::unique_ptr<Pattern> make_digit_pattern();
// Fixed text; not empty.
std::unique_ptr<Pattern> make_literal_pattern(std::string text);
// A regular expression in Oniguruma's syntax, run by PCRE2. Throws Error(unsupported) for whatever
// the two might understand differently, Error(format) for what neither understands; both name
// `place`.
std::unique_ptr<Pattern> make_regex_pattern(const std::string& regex, const std::string& file,
                                            const std::string& place);
// The same, but the expressions above get their scanners.
std::unique_ptr<Pattern> make_split_pattern(const std::string& regex, const std::string& file,
                                            const std::string& place);

// What becomes of a match, in the words of tokenizer.json.
enum class SplitBehavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

// Replaces each span by its parts. `invert`: what does not match counts as a match and vice versa.
void split_spans(std::string_view text, const Pattern& pattern, SplitBehavior behavior, bool invert,
                 std::vector<Span>& spans);

}  // namespace neap
