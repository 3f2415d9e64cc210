// neap/verify.h over the readers, one matrix in memory at a time.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "base/parallel.h"
#include "export/dense_tensors.h"
#include "export/export_record.h"
#include "export/verify.h"
#include "export/verify_text.h"
#include "io/gguf.h"
#include "model/weights.h"
#include "neap/error.h"
#include "neap/verify.h"

namespace neap {
namespace {

constexpr std::int64_t kPartRows = Weights::kHeadPart;
constexpr std::size_t kWorst = 5;
// Of what is stored dense: rounding to bf16 costs 3e-6.
constexpr double kDenseError = 1e-5;

struct Sums {
  double error = 0, energy = 0;
  double relative() const { return energy > 0 ? error / energy : error > 0 ? 1 : 0; }
};

class Verification {
 public:
  Verification(const Checkpoint& output, const Checkpoint* source, const VerifyOptions& options, std::optional<ExportRecord> record)
      : options_(options), ours_(output, read_config(output)), record_(std::move(record)) {
    if (source) theirs_.emplace(*source, read_config(*source));
  }

  // compared: the bytes are known to be those of the record.
  VerifyReport run(bool compared) {
    const auto start = std::chrono::steady_clock::now();
    if (theirs_) compare_configurations();
    total_ = ours_.config().layers + 3;
    report_.tensors = static_cast<std::int64_t>(ours_.checkpoint().tensors().size());
    for (const TensorInfo& tensor : ours_.checkpoint().tensors()) report_.bytes += tensor.bytes;
    if (record_ && !compared) compare_hashes();
    report_.hashes = record_.has_value();
    if (theirs_) find_moved_factors();
    for (std::int64_t layer = 0; layer < ours_.config().layers; ++layer) check_layer(layer);
    check_ends();
    summarize();
    advance();
    predict();
    report_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return std::move(report_);
  }

 private:
  [[noreturn]] void fail(const std::string& tensor, const std::string& message, const std::string& expected = {},
                         const std::string& found = {}) const {
    throw Error(ErrorCode::data, message,
                {.file = ours_.checkpoint().path(), .tensor = tensor, .expected = expected, .found = found});
  }

  void advance() {
    if (options_.progress && !options_.progress({.stage = "verifying", .done = done_++, .total = total_})) {
      throw Error(ErrorCode::cancelled, "stopped");
    }
  }

  // A head may be untied, a type another; a GGUF states numbers as fp32 and has no words for windows.
  void compare_configurations() const {
    const ModelConfig &a = ours_.config(), &b = theirs_->config();
    const auto same = [&](const char* what, auto found, auto expected) {
      if (found != expected) fail(what, "not the source's", std::to_string(expected), std::to_string(found));
    };
    const auto near = [&](const char* what, double found, double expected) {
      if (std::abs(found - expected) > 1e-6 * std::abs(expected)) fail(what, "not the source's", std::to_string(expected), std::to_string(found));
    };
    same("layers", a.layers, b.layers);
    same("hidden size", a.hidden, b.hidden);
    same("intermediate size", a.intermediate, b.intermediate);
    same("vocabulary", a.vocabulary, b.vocabulary);
    same("heads", a.heads, b.heads);
    same("key-value heads", a.kv_heads, b.kv_heads);
    same("head size", a.head_dim, b.head_dim);
    same("positions", a.max_positions, b.max_positions);
    same("biases of q, k and v", a.qkv_bias, b.qkv_bias);
    same("biases of o_proj", a.output_bias, b.output_bias);
    same("biases of the MLP", a.mlp_bias, b.mlp_bias);
    same("norms of q and k", a.qk_norm, b.qk_norm);
    near("norm epsilon", a.norm_epsilon, b.norm_epsilon);
    near("rope theta", a.rope_theta, b.rope_theta);
    const bool huggingface = !ours_.checkpoint().gguf() && !theirs_->checkpoint().gguf();
    if (huggingface && a.family != b.family) fail("model_type", "not the source's", b.family, a.family);
    if (huggingface && a.rope_scaling != b.rope_scaling) fail("rope_scaling", "not the source's");
    for (std::size_t i = 0; i < a.switches.size(); ++i) {
      const std::string layer = "model.layers." + std::to_string(i);
      if (a.switches[i].rope != b.switches[i].rope) fail(layer, "has rope where the source has none, or the other way round");
      if (huggingface && a.switches[i].window != b.switches[i].window) {
        fail(layer, "sees another window than the source's", std::to_string(b.switches[i].window), std::to_string(a.switches[i].window));
      }
    }
  }

  void compare_hashes() const {
    const Checkpoint& output = ours_.checkpoint();
    verify_tensors(output, record_->tensors, [](std::uint64_t) {});
    if (header_digest(output) != record_->header) {
      fail(output.gguf() ? "metadata" : "config.json", "is not what was exported");
    }
  }

  static std::string stored_name(const Weights& weights, const NamePair& pair, std::optional<std::int64_t> layer, const char* suffix = ".weight") {
    const bool gguf = weights.checkpoint().gguf() != nullptr;
    const std::string front = layer ? (gguf ? "blk." : "model.layers.") + std::to_string(*layer) + "." : "";
    return front + std::string(gguf ? pair.gguf : pair.huggingface) + suffix;
  }

  std::vector<float> vector(const Weights& weights, const NamePair& pair, std::optional<std::int64_t> layer) const {
    return weights.checkpoint().read(weights.checkpoint().info(stored_name(weights, pair, layer)));
  }

  // Where a norm is another one, its factors went into the layers around it.
  void find_moved_factors() {
    moved_ = record_ && record_->moved_factors;
    if (!record_) {
      for (std::int64_t layer = 0; layer < ours_.config().layers && !moved_; ++layer) {
        for (const NamePair& norm : {kInputNorm, kMlpNorm}) moved_ |= vector(ours_, norm, layer) != vector(*theirs_, norm, layer);
      }
    }
    if (moved_) report_.notes.emplace_back("factors were moved between the layers of a block, so its weights do not compare with the source's; predictions do");
  }

  // Whether a matrix of the output is stored in anything but plain numbers.
  bool is_quantized(const std::string& stored_weight) const {
    const TensorInfo* tensor = ours_.checkpoint().find(stored_weight);
    return !tensor || block_elements(tensor->type) > 1;
  }

  // Adds up rows; theirs may be empty.
  void add(const std::string& tensor, std::int64_t first, MatrixView<const float> ours, MatrixView<const float> theirs, Sums& sums) const {
    std::vector<Sums> rows(ours.rows);
    std::vector<std::size_t> bad(ours.rows, ours.cols);
    parallel_for(ours.rows, [&](std::size_t r) {
      for (std::size_t c = 0; c < ours.cols; ++c) {
        const double value = ours(r, c);
        if (!std::isfinite(value) && bad[r] == ours.cols) bad[r] = c;
        if (theirs.empty()) continue;
        rows[r].error += (value - theirs(r, c)) * (value - theirs(r, c));
        rows[r].energy += static_cast<double>(theirs(r, c)) * theirs(r, c);
      }
    });
    for (std::size_t r = 0; r < ours.rows; ++r) {
      if (bad[r] < ours.cols) {
        fail(tensor, "is not finite at row " + std::to_string(first + static_cast<std::int64_t>(r)) + ", column " + std::to_string(bad[r]));
      }
      sums.error += rows[r].error;
      sums.energy += rows[r].energy;
    }
  }

  // kind: empty for vectors.
  void judge(const std::string& kind, const std::string& tensor, bool quantized, bool movable, const Sums& sums) {
    if (quantized) ++report_.quantized;
    if (!theirs_ || (movable && moved_)) return;
    const double error = sums.relative();
    const auto percent = [](double part) { return std::to_string(100 * std::sqrt(part)) + " %"; };
    if (!quantized && error > kDenseError) fail(tensor, "is stored as it was in the source, and differs from it", "at most " + percent(kDenseError), percent(error));
    // Solvers care for outputs alone, and at two bits they may go far. Unless the bytes are known, it is another tensor.
    if (quantized && error >= 1 && !record_) fail(tensor, "is further from the source's weights than zero is", "less than 100 %", percent(error));
    if (quantized && error >= 1) report_.notes.push_back(tensor + ": its weights are further from the source's than zero is (" + percent(error) + ")");
    if (!quantized) return;
    VerifyReport::Kind& its = kinds_[kind];
    its.name = kind;
    its.mean += (error - its.mean) / static_cast<double>(++its.tensors);
    if (its.worst.module.empty() || error > its.worst.error) its.worst = {tensor, error};
    report_.worst.push_back({tensor, error});
  }

  void check_vector(const NamePair& pair, std::optional<std::int64_t> layer) {
    const std::vector<float> ours = vector(ours_, pair, layer), theirs = theirs_ ? vector(*theirs_, pair, layer) : std::vector<float>{};
    compare_vectors(stored_name(ours_, pair, layer), layer.has_value(), ours, theirs);
  }

  void compare_vectors(const std::string& name, bool movable, const std::vector<float>& ours, const std::vector<float>& theirs) {
    NEAP_CHECK(!theirs_ || theirs.size() == ours.size());
    Sums sums;
    add(name, 0, {ours.data(), 1, ours.size()}, {theirs.data(), theirs.empty() ? 0u : 1u, theirs.size()}, sums);
    judge("", name, false, movable, sums);
  }

  void check_layer(std::int64_t layer) {
    advance();
    const ModelConfig& config = ours_.config();
    for (const NamePair& norm : {kInputNorm, kMlpNorm}) check_vector(norm, layer);
    for (const NamePair& norm : {kQNorm, kKNorm}) {
      if (config.qk_norm) check_vector(norm, layer);
    }
    for (std::size_t r = 0; r < kRoles; ++r) {
      const auto role = static_cast<Role>(r);
      const std::string module = module_name(layer, role);
      const Matrix<float> ours = ours_.weight(layer, role), theirs = theirs_ ? theirs_->weight(layer, role) : Matrix<float>{};
      Sums sums;
      add(module, 0, ours, theirs, sums);
      judge(module.substr(module.rfind('.') + 1), module, is_quantized(stored_name(ours_, role_names(role), layer)), true, sums);
      const std::vector<float> bias = ours_.bias(layer, role);
      if (!bias.empty()) compare_vectors(module + ".bias", true, bias, theirs_ ? theirs_->bias(layer, role) : std::vector<float>{});
    }
  }

  // Embedding, last norm and head, the large ones a part at a time.
  void check_ends() {
    advance();
    check_vector(kFinalNorm, {});
    const std::string name = stored_name(ours_, kEmbedding, {});
    const TensorInfo& embedding = ours_.checkpoint().info(name);
    Sums sums;
    Matrix<float> part(static_cast<std::size_t>(std::min(kPartRows, ours_.config().vocabulary)), static_cast<std::size_t>(ours_.config().hidden));
    for (std::int64_t first = 0; first < ours_.config().vocabulary; first += kPartRows) {
      const std::int64_t count = std::min(kPartRows, ours_.config().vocabulary - first);
      ours_.checkpoint().read_rows(embedding, first, count, part.data());
      ours_.checkpoint().release(embedding);
      compare_rows("model.embed_tokens", kEmbedding, first, part.view().row_range(0, static_cast<std::size_t>(count)), sums);
    }
    judge("embed_tokens", "model.embed_tokens", is_quantized(name), false, sums);
    advance();
    if (ours_.config().tied_head) return;
    Sums head;
    const NamePair& source_head = theirs_ && theirs_->config().tied_head ? kEmbedding : kHead;
    ours_.visit_head([&](std::int64_t first, MatrixView<const float> rows) { compare_rows("lm_head", source_head, first, rows, head); });
    judge("lm_head", "lm_head", is_quantized(stored_name(ours_, kHead, {})), false, head);
  }

  // `source`: what these rows are in the source, if that stores them one by one.
  void compare_rows(const std::string& tensor, const NamePair& source, std::int64_t first, MatrixView<const float> rows, Sums& sums) const {
    const TensorInfo* info = theirs_ ? theirs_->checkpoint().find(stored_name(*theirs_, source, {})) : nullptr;
    Matrix<float> theirs;
    if (info) {
      theirs = Matrix<float>::unset(rows.rows, rows.cols);
      theirs_->checkpoint().read_rows(*info, first, static_cast<std::int64_t>(rows.rows), theirs.data());
      theirs_->checkpoint().release(*info);
    }
    add(tensor, first, rows, theirs, sums);
  }

  void summarize() {
    for (auto& [name, kind] : kinds_) report_.kinds.push_back(std::move(kind));
    std::stable_sort(report_.worst.begin(), report_.worst.end(), [](const auto& a, const auto& b) { return a.error > b.error; });
    if (report_.worst.size() > kWorst) report_.worst.resize(kWorst);
  }

  static bool has_tokenizer(const Checkpoint& checkpoint) {
    if (const GgufFile* gguf = checkpoint.gguf()) return gguf->has("tokenizer.ggml.model");
    return std::ifstream(checkpoint.folder() + "/tokenizer.json").good();
  }

  std::vector<TokenId> tokens_of(const std::string& text) const {
    const std::vector<TokenId> ours = Tokenizer::open(ours_.checkpoint()).encode(text);
    if (theirs_ && has_tokenizer(theirs_->checkpoint()) && Tokenizer::open(theirs_->checkpoint()).encode(text) != ours) {
      fail("tokenizer", "gives other tokens than the source's for the same text");
    }
    return ours;
  }

  // Nothing, and a note, where the model has no tokenizer that Neap can read.
  std::vector<TokenId> tokens_or_note() {
    std::string why = "it has none";
    try {
      if (has_tokenizer(ours_.checkpoint())) return tokens_of(options_.text.empty() ? kVerifyText : options_.text);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::unsupported) throw;
      why = error.what();
    }
    report_.notes.push_back("no tokenizer to compare or to predict with: " + why);
    return {};
  }

  // Blocks are read when their turn comes, which is once.
  static std::unique_ptr<LanguageModel> load(const Checkpoint& checkpoint) { return load_model(checkpoint, {.max_memory = 1}); }

  void predict() {
    EvalWindow window;
    window.tokens = tokens_or_note();
    if (window.tokens.empty() || options_.tokens <= 0) {
      if (options_.max_kl > 0) fail("", "KL divergence cannot be measured without a token to predict", "at most " + std::to_string(options_.max_kl) + " nats");
      return;
    }
    const std::int64_t most = std::min(options_.tokens, ours_.config().max_positions);
    window.tokens.resize(std::min(window.tokens.size(), static_cast<std::size_t>(most)));
    if (window.tokens.size() < 2) throw Error(ErrorCode::data, "too little text to predict", {.expected = "2 tokens at least", .found = std::to_string(window.tokens.size())});
    const auto ours = load(ours_.checkpoint()), theirs = theirs_ ? load(theirs_->checkpoint()) : nullptr;
    EvalResult result = evaluate(*ours, theirs.get(), {window}, {.progress = options_.progress});
    report_.predicted = result.perplexity.tokens;
    report_.perplexity = result.perplexity.value;
    report_.divergence = std::move(result.divergence);
    const double kl = report_.divergence ? report_.divergence->kl.mean : 0;
    if (options_.max_kl > 0 && kl > options_.max_kl) {
      fail("", "predicts too unlike its source: KL divergence", "at most " + std::to_string(options_.max_kl) + " nats", std::to_string(kl));
    }
  }

  const VerifyOptions& options_;
  Weights ours_;
  std::optional<Weights> theirs_;
  std::optional<ExportRecord> record_;
  bool moved_ = false;
  std::map<std::string, VerifyReport::Kind> kinds_;
  VerifyReport report_;
  std::int64_t done_ = 0, total_ = 0;
};

}  // namespace

VerifyReport verify(const Checkpoint& output, const Checkpoint* source, const VerifyOptions& options) {
  const ThreadScope threads(options.threads);
  return Verification(output, source, options, ExportRecord::read(output)).run(false);
}

VerifyReport verify_written(const Checkpoint& output, const Checkpoint* source, const VerifyOptions& options, ExportRecord record) {
  const ThreadScope threads(options.threads);
  return Verification(output, source, options, std::move(record)).run(true);
}

std::string VerifyReport::to_json() const {
  using Json = nlohmann::ordered_json;
  const auto json_of = [](const Layer& layer) { return Json{{"module", layer.module}, {"relative_error", layer.error}}; };
  Json j = {{"tensors", tensors}, {"quantized", quantized}, {"bytes", bytes}, {"hashes_compared", hashes}};
  j["kinds"] = Json::array();
  for (const Kind& k : kinds) {
    j["kinds"].push_back({{"kind", k.name}, {"tensors", k.tensors}, {"relative_error", k.mean}, {"worst", json_of(k.worst)}});
  }
  j["worst"] = Json::array();
  for (const Layer& layer : worst) j["worst"].push_back(json_of(layer));
  j["predicted_tokens"] = predicted;
  if (predicted > 0) j["perplexity"] = perplexity;
  if (divergence) {
    j["reference_perplexity"] = divergence->reference.value;
    j["kl"] = {{"mean", divergence->kl.mean}, {"error", divergence->kl.error}, {"max", divergence->kl_max}};
    j["same_top"] = divergence->same_top.mean;
  }
  j["notes"] = notes;
  j["seconds"] = seconds;
  return j.dump(1);
}

}  // namespace neap
