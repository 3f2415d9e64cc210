#include "model/pretokenize.h"

#include <algorithm>

namespace neap {
namespace {

struct Part {
  Span span;
  bool match;
};

// Matches and what lies between them, in order.
void cut(Span whole, const std::vector<Span>& matches, bool invert, std::vector<Part>& parts) {
  parts.clear();
  std::size_t at = whole.begin;
  for (const Span& match : matches) {
    const Span found{whole.begin + match.begin, whole.begin + match.end};
    if (at < found.begin) parts.push_back({{at, found.begin}, invert});
    parts.push_back({found, !invert});
    at = found.end;
  }
  if (at < whole.end) parts.push_back({{at, whole.end}, invert});
}

// Joins each part for which joins(part, neighbour before it in walking order) holds to that
// neighbour.
template <class Joins>
void merge(std::vector<Part>& parts, bool backwards, Joins joins) {
  if (backwards) std::reverse(parts.begin(), parts.end());
  std::vector<Part> merged;
  bool previous = false;
  for (const Part& part : parts) {
    if (!merged.empty() && joins(part.match, previous)) {
      (backwards ? merged.back().span.begin : merged.back().span.end) =
          backwards ? part.span.begin : part.span.end;
    } else {
      merged.push_back(part);
    }
    previous = part.match;
  }
  if (backwards) std::reverse(merged.begin(), merged.end());
  parts = std::move(merged);
}

void behave(SplitBehavior behavior, std::vector<Part>& parts) {
  // A match joins its neighbour unless that is a match too: "--" is "-", "-".
  const auto lone_match = [](bool match, bool previous) { return match && !previous; };
  switch (behavior) {
    case SplitBehavior::isolated:
      break;
    case SplitBehavior::removed:
      std::erase_if(parts, [](const Part& part) { return part.match; });
      break;
    case SplitBehavior::contiguous:
      merge(parts, false, [](bool match, bool previous) { return match == previous; });
      break;
    case SplitBehavior::merged_with_previous:
      merge(parts, false, lone_match);
      break;
    case SplitBehavior::merged_with_next:
      merge(parts, true, lone_match);
      break;
  }
}

}  // namespace

void split_spans(std::string_view text, const Pattern& pattern, SplitBehavior behavior, bool invert,
                 std::vector<Span>& spans) {
  std::vector<Span> result, matches;
  std::vector<Part> parts;
  result.reserve(spans.size());
  for (const Span& span : spans) {
    matches.clear();
    pattern.find(text.substr(span.begin, span.end - span.begin), matches);
    cut(span, matches, invert, parts);
    behave(behavior, parts);
    for (const Part& part : parts) result.push_back(part.span);
  }
  spans = std::move(result);
}

}  // namespace neap
