// Names of modules, as users of compressed-tensors write them in `targets` and `ignore`.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace neap {

// An exact module name, the class name "Linear" (every linear layer), or "re:" and a regular expression
// that must match from the name's first character, as Python's re.match does.
class Pattern {
 public:
  // Throws Error(argument) for a regular expression that does not compile.
  explicit Pattern(const std::string& text);
  bool matches(std::string_view module) const;
  const std::string& text() const { return text_; }

 private:
  std::string text_;
  std::shared_ptr<void> regex_;  // compiled, or null for a plain name
};

}  // namespace neap
