// Character classes as the `tokenizers` package sees them.
//
// Three Unicode versions meet here. tokenizers 0.23 matches \p{..} with Oniguruma (Unicode 16),
// Debian 12's utf8proc 2.8 knows Unicode 15 and its PCRE2 10.42 Unicode 14. What Unicode 15 and 16
// added stands in a table of its own, so that all three agree on every code point assigned up to
// Unicode 16. A code point assigned later (17: some 5000, nearly all in new scripts and ideographs)
// counts as unassigned, hence as neither letter nor number, as it does in tokenizers 0.23.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace neap {

// A range of code points assigned in Unicode 15 or 16, with its general category ("Lo").
struct NewRange {
  char32_t first, last;
  char category[3];
};
std::span<const NewRange> ranges_since_unicode_14();

// Oniguruma's \p{L}, \p{N} and \s (the White_Space property, U+0085 included).
bool is_letter(char32_t c);
bool is_number(char32_t c);
bool is_space(char32_t c);
// Rust's char::is_numeric, which the Digits pre-tokenizer uses: is_number and 13 code points of
// Unicode 17.
bool is_numeric(char32_t c);
// Rust regex's \w: letters, marks, decimal digits, connectors, joiners and the rest of Alphabetic.
bool is_word(char32_t c);

// Normalization form C as the unicode-normalization-alignments crate of `tokenizers` computes it:
// with the combining classes of Unicode 9. Marks assigned later count as starters there, so they
// are neither reordered nor composed.
std::string normalize_nfc(std::string_view valid_text);

}  // namespace neap
