#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>

#include "base/parallel.h"
#include "linalg/matmul.h"
#include "model/elementwise.h"
#include "model/loaded_model.h"
#include "neap/error.h"

namespace neap {
namespace {

constexpr auto kPart = static_cast<std::size_t>(Weights::kHeadPart);

std::uint64_t half_of_memory() {
  return static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) *
         static_cast<std::uint64_t>(sysconf(_SC_PAGE_SIZE)) / 2;
}

std::uint64_t elements(const Shape& shape) {
  std::uint64_t count = 1;
  for (const std::int64_t n : shape) count *= static_cast<std::uint64_t>(n);
  return count;
}

std::uint64_t block_elements(const ModelConfig& config) {
  std::uint64_t count = 0;
  for (std::size_t role = 0; role < kRoles; ++role)
    count += elements(module_shape(config, static_cast<Role>(role)));
  return count;
}

std::uint64_t bytes_of(const Block& block) {
  std::uint64_t bytes = 0;
  for (const auto& linear : block.linears) bytes += linear->cost().bytes;
  return bytes;
}

// Every module's inputs alike, with scales per token.
InputCoder same_for_all(BlockScaled format, const Weights& weights) {
  const BlockScaledInputs inputs{format, usual_group(format)};
  for (std::size_t role = 0; role < kRoles; ++role) {
    const std::int64_t cols = module_shape(weights.config(), static_cast<Role>(role))[1];
    if (cols % inputs.group == 0) continue;
    throw Error(ErrorCode::argument, "activations in " + name_of(format) + " need groups that divide every layer's inputs",
                {.file = weights.checkpoint().path(),
                 .expected = "multiples of " + std::to_string(inputs.group),
                 .found = std::to_string(cols)});
  }
  return [inputs](const std::string&) { return inputs; };
}

InputCoder same_for_all(const std::optional<CodebookSet>& given, const Weights& weights) {
  CodebookSet set;
  if (given) {
    set = *given;
  } else {
    const std::optional<CodebookSet> stored = weights.codebooks();
    set = stored ? *stored : universal_codebooks({});
  }
  const InputEncoder inputs{std::make_shared<LobcqEncoder>(set.layout, set.activations), set.activations, {}};
  return [inputs](const std::string&) { return inputs; };
}

constexpr std::array kInputCodings = {std::pair{InputCoding::stored, "stored"}, std::pair{InputCoding::keep, "keep"},
                                      std::pair{InputCoding::lobcq, "lobcq"},   std::pair{InputCoding::nvfp4, "nvfp4"},
                                      std::pair{InputCoding::mxfp4, "mxfp4"},   std::pair{InputCoding::int4, "int4"}};

// With the scales of LO-BCQ chosen as asked for.
InputCoder with_scales(InputCoder coder, ScaleChoice scales) {
  return [coder, scales](const std::string& module) {
    std::optional<InputEncoding> coding = coder(module);
    if (auto* lobcq = coding ? std::get_if<InputEncoder>(&*coding) : nullptr) lobcq->scales = scales;
    return coding;
  };
}

void require_lobcq_inputs(const LoadOptions& options, const Weights& weights) {
  const bool stored = options.inputs == InputCoding::stored;
  if (options.inputs == InputCoding::lobcq || (stored && weights.codebooks())) return;
  throw Error(ErrorCode::argument, "scales of activations are searched in LO-BCQ alone",
              {.file = weights.checkpoint().path(),
               .expected = "activations in LO-BCQ",
               .found = stored ? "a model whose activations are not" : name_of(options.inputs)});
}

InputCoder coder_for(const LoadOptions& options, const Weights& weights) {
  if (options.input_scales == ScaleChoice::search) require_lobcq_inputs(options, weights);
  switch (options.inputs) {
    case InputCoding::stored:
      return with_scales([&weights](const std::string& module) { return weights.stored_inputs(module); },
                         options.input_scales);
    case InputCoding::keep: return {};
    case InputCoding::lobcq: return with_scales(same_for_all(options.codebooks, weights), options.input_scales);
    case InputCoding::nvfp4: return same_for_all(BlockScaled::nvfp4, weights);
    case InputCoding::mxfp4: return same_for_all(BlockScaled::mxfp4, weights);
    case InputCoding::int4: return same_for_all(BlockScaled::int4, weights);
  }
  return {};
}

// A pass that reads weights as it goes is none of short loops.
void run_resident(bool resident, const std::function<void()>& pass) {
  resident ? with_team(pass) : pass();
}

}  // namespace

InputCoding input_coding_from_name(const std::string& name) {
  for (const auto& [coding, known] : kInputCodings) {
    if (name == known) return coding;
  }
  throw Error(ErrorCode::argument, "no such coding of activations",
              {.expected = "stored, keep, lobcq, nvfp4, mxfp4 or int4", .found = "'" + name + "'"});
}

std::string name_of(InputCoding coding) {
  for (const auto& [known, name] : kInputCodings) {
    if (coding == known) return name;
  }
  return "?";
}

LoadedModel::LoadedModel(Weights weights, const LoadOptions& options)
    : weights_(std::move(weights)),
      precision_(options.precision),
      types_(options.precision, options.kv_type),
      inputs_(coder_for(options, weights_)),
      packed_(options.packed),
      blocks_(weights_.config().switches.size()),
      final_norm_(weights_.final_norm()) {
  const std::uint64_t bytes =
      operand_bytes(precision_ == Precision::f32 ? Operand::f32 : bf16_operand());
  const std::uint64_t vocabulary = elements({config().vocabulary, config().hidden});
  // Packed tables take a byte an element at most, but for scales.
  const auto table = [&](VocabularyWeights kind, std::uint64_t stored) {
    return kind == VocabularyWeights::stored ? stored * vocabulary : vocabulary;
  };
  const std::uint64_t embedding = table(embedding_weights(), 0);
  const std::uint64_t head = one_table() ? 0 : table(head_weights(), bytes);
  auto first = packed_ ? read_block(0) : nullptr;  // what is packed says how large it is
  const std::uint64_t block = first ? bytes_of(*first) : bytes * block_elements(config());
  std::uint64_t budget = options.max_memory > 0 ? options.max_memory : half_of_memory();
  budget -= std::min(budget, embedding);
  const std::uint64_t blocks = block * static_cast<std::uint64_t>(config().layers);
  keeps_blocks_ = blocks <= budget;
  const std::uint64_t left = keeps_blocks_ ? budget - blocks : budget - std::min(budget, block);
  keeps_head_ = head <= left;
  if (keeps_blocks_) blocks_[0] = std::move(first);
}

std::unique_ptr<const Block> LoadedModel::read_block(std::size_t index) const {
  return std::make_unique<const Block>(weights_.block(static_cast<std::int64_t>(index), precision_, inputs_, packed_.get()));
}

void LoadedModel::visit_blocks(const std::function<void(const Block&)>& visit) {
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    if (blocks_[i]) {
      visit(*blocks_[i]);
      continue;
    }
    auto block = read_block(i);
    visit(*block);
    if (keeps_blocks_) blocks_[i] = std::move(block);
  }
}

const RopeTable& LoadedModel::rope(std::size_t positions) {
  const std::size_t known = rope_.cosine.rows();
  if (known < positions) rope_ = make_rope_table(config(), std::max(positions, 2 * known));
  return rope_;
}

void LoadedModel::load_embedding() {
  if (!embedding_.empty()) return;
  std::vector<std::unique_ptr<const VocabularyPart>> parts;
  weights_.visit_embedding([&](std::int64_t, MatrixView<const float> rows) {
    parts.push_back(packed_->vocabulary_part(embedding_weights(), rows));
  });
  embedding_ = std::move(parts);
}

void LoadedModel::embed(std::span<const TokenId> tokens, MatrixView<float> states) {
  if (embedding_weights() == VocabularyWeights::stored) return weights_.embed(tokens, states);
  weights_.require_in_vocabulary(tokens);
  load_embedding();
  constexpr std::size_t kTile = 16;
  parallel_for((tokens.size() + kTile - 1) / kTile, [&](std::size_t tile) {
    for (std::size_t i = tile * kTile; i < std::min(tokens.size(), (tile + 1) * kTile); ++i) {
      const auto id = static_cast<std::size_t>(tokens[i]);
      embedding_[id / kPart]->read_row(id % kPart, states.row(i));
    }
  });
}

void LoadedModel::normalize(MatrixView<float> states) const {
  const auto epsilon = static_cast<float>(config().norm_epsilon);
  constexpr std::size_t kRows = 16;
  parallel_for((states.rows + kRows - 1) / kRows, [&](std::size_t tile) {
    for (std::size_t r = tile * kRows; r < std::min(states.rows, (tile + 1) * kRows); ++r)
      rms_norm(states.row(r), final_norm_.data(), epsilon, states.cols, states.row(r));
  });
}

void LoadedModel::forward(std::span<const TokenId> tokens, std::size_t length,
                          MatrixView<float> states) {
  NEAP_CHECK(length > 0 && tokens.size() % length == 0);
  embed(tokens, states);  // `states` is the residual stream until the last norm
  const RopeTable& table = rope(length);
  visit_blocks([&](const Block& block) {
    forward_block(config(), block, table, types_, length, states);
  });
  normalize(states);
}

void LoadedModel::forward_cached(std::span<const TokenId> tokens,
                                 std::span<const std::size_t> counts, KvCache& cache,
                                 MatrixView<float> states) {
  NEAP_CHECK(counts.size() == cache.sequences());
  std::vector<Segment> segments;
  std::size_t row = 0, positions = 0;
  for (std::size_t s = 0; s < counts.size(); ++s) {
    if (counts[s] == 0) continue;
    segments.push_back({s, row, cache.length(s), counts[s]});
    row += counts[s];
    positions = std::max(positions, cache.length(s) + counts[s]);
  }
  NEAP_CHECK(row == tokens.size() && row > 0);
  embed(tokens, states);
  const RopeTable& table = rope(positions);
  cache.reserve(positions);
  run_resident(blocks_.back() != nullptr, [&] {
    visit_blocks([&](const Block& block) {
      forward_block_cached(config(), block, table, types_.operand, cache, segments, states);
    });
  });
  for (const Segment& segment : segments) cache.advance(segment.sequence, segment.count);
  normalize(states);
}

void LoadedModel::head(MatrixView<const float> states, MatrixView<float> logits) {
  NEAP_CHECK(states.rows == logits.rows &&
             states.cols == static_cast<std::size_t>(config().hidden));
  NEAP_CHECK(logits.cols == static_cast<std::size_t>(config().vocabulary));
  run_resident(head_is_loaded(), [&] {
    visit_head([&](const Linear& part, std::size_t first) {
      part.apply(states, logits.block(0, first, logits.rows, part.out()));
    });
  });
}

void LoadedModel::run_together(const std::function<void()>& body) {
  run_resident(blocks_.back() != nullptr && head_is_loaded(), body);
}

void LoadedModel::visit_head(
    const std::function<void(const Linear& part, std::size_t first)>& visit) {
  if (one_table()) load_embedding();
  if (head_is_loaded()) {
    const auto visit_all = [&](const auto& parts) {
      for (std::size_t i = 0; i < parts.size(); ++i) visit(*parts[i], i * kPart);
    };
    return one_table() ? visit_all(embedding_) : visit_all(head_);
  }
  const bool dense = head_weights() == VocabularyWeights::stored;
  std::vector<std::unique_ptr<const Linear>> parts;
  weights_.visit_head([&](std::int64_t first, MatrixView<const float> rows) {
    std::unique_ptr<const Linear> part;
    if (dense)
      part = make_dense_linear(rows, {}, precision_);
    else
      part = packed_->vocabulary_part(head_weights(), rows);
    visit(*part, static_cast<std::size_t>(first));
    if (keeps_head_) parts.push_back(std::move(part));
  });
  head_ = std::move(parts);
}

LoadedModel& loaded_model(LanguageModel& model) {
  auto* loaded = dynamic_cast<LoadedModel*>(&model);
  if (!loaded) throw Error(ErrorCode::argument, "only a model from load_model can be run on a cache");
  return *loaded;
}

std::unique_ptr<LanguageModel> load_model(const Checkpoint& checkpoint,
                                          const LoadOptions& options) {
  return std::make_unique<LoadedModel>(Weights(checkpoint, read_config(checkpoint)), options);
}

}  // namespace neap
