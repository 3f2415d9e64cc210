// The normalizer, pre_tokenizer and decoder of a tokenizer.json.
#include <string>

#include "model/tokenizer_json.h"
#include "model/utf8.h"
#include "neap/error.h"

namespace neap {
namespace {

[[noreturn]] void unsupported(const JsonNode& node, const std::string& what) {
  throw Error(
      ErrorCode::unsupported, what,
      {.file = node.file(), .tensor = node.path(), .offset = {}, .expected = {}, .found = {}});
}

[[noreturn]] void unknown_type(const JsonNode& node, const char* kind) {
  const JsonNode type = node.at("type");
  unsupported(type, std::string("there is no ") + kind + " '" + type.string() + "' here");
}

bool boolean(const JsonNode& node, std::string_view key, bool otherwise) {
  const auto found = node.find(key);
  return found ? found->boolean() : otherwise;
}

std::string one_character(const JsonNode& node) {
  if (count_code_points(node.string()) != 1) node.fail("bad value", "one character");
  return node.string();
}

// {"String": ..} or {"Regex": ..}.
std::shared_ptr<const Pattern> read_pattern(const JsonNode& node, bool regex_allowed) {
  if (const auto text = node.find("String")) {
    if (text->string().empty()) unsupported(*text, "an empty pattern");
    return make_literal_pattern(text->string());
  }
  const JsonNode regex = node.at("Regex");
  if (!regex_allowed) unsupported(regex, "a regular expression in a decoder");
  return make_split_pattern(regex.string(), regex.file(), regex.path());
}

SplitBehavior read_behavior(const JsonNode& node) {
  const std::string& name = node.string();
  if (name == "Removed") return SplitBehavior::removed;
  if (name == "Isolated") return SplitBehavior::isolated;
  if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
  if (name == "Contiguous") return SplitBehavior::contiguous;
  node.fail("bad value", "a split behavior");
}

// Runs read(element) for the elements of a Sequence, or for the component itself.
template <class Read>
void for_each_component(const JsonNode& node, const char* list_key, const Read& read) {
  if (node.at("type").string() != "Sequence") return read(node);
  const JsonNode list = node.at(list_key);
  for (std::size_t i = 0; i < list.size(); ++i) for_each_component(list[i], list_key, read);
}

using PreKind = PreTokenizerStep::Kind;

PreTokenizerStep read_metaspace(const JsonNode& node) {
  PreTokenizerStep step{.kind = PreKind::metaspace};
  step.replacement = one_character(node.at("replacement"));
  if (const auto scheme = node.find("prepend_scheme")) {
    using Prepend = PreTokenizerStep::Prepend;
    if (scheme->string() == "first") {
      step.prepend = Prepend::first;
    } else if (scheme->string() == "never") {
      step.prepend = Prepend::never;
    } else if (scheme->string() != "always") {
      scheme->fail("bad value", "first, never or always");
    }
  }
  if (!boolean(node, "add_prefix_space", true)) {  // how older files say "never"
    const auto scheme = node.find("prepend_scheme");
    if (step.prepend != PreTokenizerStep::Prepend::never && scheme) {
      scheme->fail("contradicts add_prefix_space");
    }
    step.prepend = PreTokenizerStep::Prepend::never;
  }
  return step;
}

void read_pre_tokenizer_step(const JsonNode& node, std::vector<PreTokenizerStep>& steps,
                             bool& byte_level) {
  // ByteLevel rewrites the text into its alphabet; what came behind would see that alphabet.
  if (byte_level) unsupported(node, "a pre-tokenizer behind ByteLevel");
  const std::string& type = node.at("type").string();
  if (type == "Split") {
    steps.push_back({.kind = PreKind::split,
                     .pattern = read_pattern(node.at("pattern"), /*regex_allowed=*/true),
                     .behavior = read_behavior(node.at("behavior")),
                     .invert = boolean(node, "invert", false)});
  } else if (type == "Digits") {
    const bool single = boolean(node, "individual_digits", false);
    steps.push_back({.kind = PreKind::split,
                     .pattern = make_digit_pattern(),
                     .behavior = single ? SplitBehavior::isolated : SplitBehavior::contiguous});
  } else if (type == "ByteLevel") {
    if (boolean(node, "add_prefix_space", true)) steps.push_back({.kind = PreKind::prefix_space});
    if (boolean(node, "use_regex", true)) {
      steps.push_back({.kind = PreKind::split, .pattern = make_gpt2_pattern()});
    }
    byte_level = true;
  } else if (type == "Metaspace") {
    const PreTokenizerStep step = read_metaspace(node);
    steps.push_back(step);
    if (boolean(node, "split", true)) {
      steps.push_back({.kind = PreKind::split,
                       .pattern = make_literal_pattern(step.replacement),
                       .behavior = SplitBehavior::merged_with_next});
    }
  } else {
    unknown_type(node, "pre-tokenizer");
  }
}

NormalizerStep read_normalizer_step(const JsonNode& node) {
  const std::string& type = node.at("type").string();
  if (type == "NFC") return {.kind = NormalizerStep::Kind::nfc};
  if (type == "Prepend") {
    return {.kind = NormalizerStep::Kind::prepend, .content = node.at("prepend").string()};
  }
  if (type == "Replace") {
    return {.kind = NormalizerStep::Kind::replace,
            .content = node.at("content").string(),
            .pattern = read_pattern(node.at("pattern"), /*regex_allowed=*/true)};
  }
  unknown_type(node, "normalizer");
}

DecoderStep read_decoder_step(const JsonNode& node) {
  using Kind = DecoderStep::Kind;
  const std::string& type = node.at("type").string();
  if (type == "ByteLevel") return {.kind = Kind::byte_level};
  if (type == "ByteFallback") return {.kind = Kind::byte_fallback};
  if (type == "Fuse") return {.kind = Kind::fuse};
  if (type == "Replace") {
    return {.kind = Kind::replace,
            .content = node.at("content").string(),
            .pattern = read_pattern(node.at("pattern"), /*regex_allowed=*/false)};
  }
  if (type == "Strip") {
    return {.kind = Kind::strip,
            .content = one_character(node.at("content")),
            .start = static_cast<std::size_t>(node.at("start").integer(0)),
            .stop = static_cast<std::size_t>(node.at("stop").integer(0))};
  }
  if (type == "Metaspace") {
    const PreTokenizerStep step = read_metaspace(node);
    return {.kind = Kind::metaspace,
            .pattern = make_literal_pattern(step.replacement),
            .drop_first = step.prepend != PreTokenizerStep::Prepend::never};
  }
  unknown_type(node, "decoder");
}

}  // namespace

std::vector<NormalizerStep> read_normalizer(const JsonNode& node) {
  std::vector<NormalizerStep> steps;
  for_each_component(node, "normalizers",
                     [&](const JsonNode& part) { steps.push_back(read_normalizer_step(part)); });
  return steps;
}

std::vector<PreTokenizerStep> read_pre_tokenizer(const JsonNode& node, bool& byte_level) {
  std::vector<PreTokenizerStep> steps;
  for_each_component(node, "pretokenizers", [&](const JsonNode& part) {
    read_pre_tokenizer_step(part, steps, byte_level);
  });
  return steps;
}

std::vector<DecoderStep> read_decoder(const JsonNode& node) {
  std::vector<DecoderStep> steps;
  for_each_component(node, "decoders",
                     [&](const JsonNode& part) { steps.push_back(read_decoder_step(part)); });
  return steps;
}

}  // namespace neap
