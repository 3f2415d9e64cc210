#include "quantize/balance.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>

#include "base/half.h"
#include "base/parallel.h"
#include "model/architecture.h"
#include "neap/error.h"
#include "quantize/fold.h"

namespace neap {
namespace {

// Factors follow second moments, which a few thousand tokens tell.
constexpr std::size_t kWindows = 4;
// Inputs and columns count with at least this share of the stage's rms: what calibration text hardly excites, other text may.
constexpr double kFloor = 1e-3;
constexpr double kHeadRidge = 1e-3;

void add_energies(MatrixView<const float> x, std::vector<double>& energies) {
  energies.resize(x.cols);
  constexpr std::size_t kColumns = 64;
  parallel_for((x.cols + kColumns - 1) / kColumns, [&](std::size_t tile) {
    const std::size_t begin = tile * kColumns, end = std::min(x.cols, begin + kColumns);
    for (std::size_t t = 0; t < x.rows; ++t) {
      for (std::size_t c = begin; c < end; ++c) energies[c] += static_cast<double>(x(t, c)) * x(t, c);
    }
  });
}

// moments += x'x over the columns of each head in turn that shares a key-value head.
void add_moments(MatrixView<const float> x, std::size_t head_dim, Matrix<double>& moments) {
  Matrix<float> part(head_dim, head_dim);
  const auto rows = static_cast<blasint>(x.rows), n = static_cast<blasint>(head_dim), stride = static_cast<blasint>(x.stride);
  for (std::size_t first = 0; first < x.cols; first += head_dim) {
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n, n, rows, 1, x.data + first, stride, x.data + first, stride, 0,
                part.data(), n);
    for (std::size_t i = 0; i < head_dim * head_dim; ++i) moments.data()[i] += part.data()[i];
  }
}

// rows of each head: w <- t w. In place.
void change_rows(const Matrix<double>& t, MatrixView<float> w) {
  std::vector<double> before(w.rows);
  for (std::size_t c = 0; c < w.cols; ++c) {
    for (std::size_t r = 0; r < w.rows; ++r) before[r] = w(r, c);
    for (std::size_t r = 0; r < w.rows; ++r) {
      double sum = 0;
      for (std::size_t k = 0; k < w.rows; ++k) sum += t(r, k) * before[k];
      w(r, c) = static_cast<float>(sum);
    }
  }
}

// w <- w t. In place.
void change_columns(MatrixView<float> w, const Matrix<double>& t) {
  std::vector<double> after(w.cols);
  for (std::size_t r = 0; r < w.rows; ++r) {
    std::fill(after.begin(), after.end(), 0);
    for (std::size_t k = 0; k < w.cols; ++k) {
      for (std::size_t c = 0; c < w.cols; ++c) after[c] += w(r, k) * t(k, c);
    }
    for (std::size_t c = 0; c < w.cols; ++c) w(r, c) = static_cast<float>(after[c]);
  }
}

std::vector<double> floored_roots(const std::vector<double>& energies) {
  double mean = 0;
  for (const double e : energies) mean += e / static_cast<double>(energies.size());
  std::vector<double> roots;
  for (const double e : energies) roots.push_back(std::sqrt(std::max(e, kFloor * kFloor * mean)));
  return roots;
}

}  // namespace

struct Balance::Moments {
  std::array<std::vector<double>, kStages.size()> energies;
  std::vector<Matrix<double>> heads;  // of what o reads, over the heads of each key-value head
};

Balance::Balance(const Weights& weights, const Plan& plan, const Streams& streams, const Block& block)
    : weights_(weights), layer_(block.index), input_norm_(block.input_norm), mlp_norm_(block.mlp_norm) {
  const ModelConfig& config = weights.config();
  const auto head_dim = static_cast<std::size_t>(config.head_dim), kv_heads = static_cast<std::size_t>(config.kv_heads);
  Moments moments;
  moments.heads.assign(kv_heads, Matrix<double>(head_dim, head_dim));
  streams.visit_block(block, kWindows, [&](Stage stage, MatrixView<const float> x) {
    if (stage != Stage::attention_output) return add_energies(x, moments.energies[static_cast<std::size_t>(stage)]);
    const std::size_t group = x.cols / kv_heads;
    parallel_for(kv_heads, [&](std::size_t k) {
      add_moments(x.block(0, k * group, x.rows, group), head_dim, moments.heads[k]);
    });
  });
  if (planned(plan, Stage::attention_output)) change_heads(moments.heads);
  for (const Stage stage : {Stage::attention_input, Stage::mlp_input, Stage::mlp_hidden}) {
    if (!planned(plan, stage)) continue;
    const auto i = static_cast<std::size_t>(stage);
    factors_[i] = choose_factors(stage, moments.energies[i]);
    if (stage == Stage::attention_input) absorb(input_norm_, factors_[i]);
    if (stage == Stage::mlp_input) absorb(mlp_norm_, factors_[i]);
  }
}

// All layers that read the input, and the one that makes it.
bool Balance::planned(const Plan& plan, Stage stage) const {
  std::vector<Role> roles = roles_of(stage);
  if (stage == Stage::attention_output) roles.push_back(Role::v);
  if (stage == Stage::mlp_hidden) roles.push_back(Role::up);
  return std::all_of(roles.begin(), roles.end(), [&](Role role) { return plan.find(module_name(layer_, role)) != nullptr; });
}

Balance::Factors Balance::choose_factors(Stage stage, const std::vector<double>& energies) const {
  std::vector<double> columns;
  for (const Role role : roles_of(stage)) add_energies(weights_.weight(layer_, role), columns);
  const std::vector<double> inputs = floored_roots(energies), weights = floored_roots(columns);
  Factors factors;
  double logs = 0;
  for (std::size_t j = 0; j < inputs.size(); ++j) logs += 0.5 * std::log(inputs[j] / weights[j]);
  const double mean = std::exp(logs / static_cast<double>(inputs.size()));
  for (std::size_t j = 0; j < inputs.size(); ++j) {
    const double factor = std::sqrt(inputs[j] / weights[j]) / mean;
    factors.push_back(std::isfinite(factor) && factor > 0 ? static_cast<float>(factor) : 1.0f);
  }
  return factors;
}

// The norm takes the factors, which become what they are once the norm is rounded to 8 significant bits, which BF16, F16 and F32 hold.
void Balance::absorb(std::vector<float>& norm, Factors& factors) {
  for (std::size_t j = 0; j < norm.size(); ++j) {
    const float divided = bf16_to_float(float_to_bf16(norm[j] / factors[j]));
    factors[j] = norm[j] == 0 || divided == 0 ? 1 : norm[j] / divided;
    if (norm[j] != 0 && divided != 0) norm[j] = divided;
  }
}

void Balance::change_heads(const std::vector<Matrix<double>>& moments) {
  const Matrix<float> o = weights_.weight(layer_, Role::o);
  const std::size_t head_dim = moments.front().rows(), group = o.cols() / moments.size();
  heads_.resize(moments.size());
  parallel_for(moments.size(), [&](std::size_t k) {
    Matrix<double> gains(head_dim, head_dim);
    add_moments(o.view().block(0, k * group, o.rows(), group), head_dim, gains);
    heads_[k] = balance_forms(moments[k], gains, kHeadRidge);
  });
}

Matrix<float> Balance::weight(Role role) const {
  Matrix<float> w = weights_.weight(layer_, role);
  for (const Stage stage : kStages) {
    const auto& roles = roles_of(stage);
    if (factors(stage).empty() || std::find(roles.begin(), roles.end(), role) == roles.end()) continue;
    scale_columns(w, factors(stage));
  }
  if (role == Role::up && !factors(Stage::mlp_hidden).empty()) divide_rows(w, factors(Stage::mlp_hidden));
  if (heads_.empty() || (role != Role::v && role != Role::o)) return w;
  const std::size_t head_dim = heads_.front().forward.rows();
  const std::size_t heads = (role == Role::v ? w.rows() : w.cols()) / head_dim;
  parallel_for(heads, [&](std::size_t h) {
    const BasisChange& change = heads_[h / (heads / heads_.size())];
    if (role == Role::v) return change_rows(change.forward, w.view().block(h * head_dim, 0, head_dim, w.cols()));
    change_columns(w.view().block(0, h * head_dim, w.rows(), head_dim), change.backward);
  });
  return w;
}

bool Balance::changes_bias(Role role) const {
  return (role == Role::v && !heads_.empty()) || (role == Role::up && !factors(Stage::mlp_hidden).empty());
}

std::vector<float> Balance::bias(Role role) const {
  std::vector<float> bias = weights_.bias(layer_, role);
  if (bias.empty() || !changes_bias(role)) return bias;
  if (role == Role::up) {
    divide(bias, factors(Stage::mlp_hidden));
    return bias;
  }
  const std::size_t head_dim = heads_.front().forward.rows();
  for (std::size_t k = 0; k < heads_.size(); ++k) {
    change_rows(heads_[k].forward, MatrixView<float>(bias.data() + k * head_dim, head_dim, 1));
  }
  return bias;
}

Block Balance::apply(Block block, Precision precision) const {
  block.input_norm = input_norm_;
  block.mlp_norm = mlp_norm_;
  for (std::size_t r = 0; r < kRoles; ++r) {
    block.linears[r] = make_dense_linear(weight(static_cast<Role>(r)), bias(static_cast<Role>(r)), precision);
  }
  return block;
}

void Balance::write_dense(const LayerSink& sink) const {
  const auto write = [&](const std::string& name, const std::vector<float>& values) {
    sink.dense(name, MatrixView<const float>(values.data(), 1, values.size()));
  };
  const std::string layer = "model.layers." + std::to_string(layer_) + ".";
  if (!factors(Stage::attention_input).empty()) write(layer + std::string(kInputNorm.huggingface) + ".weight", input_norm_);
  if (!factors(Stage::mlp_input).empty()) write(layer + std::string(kMlpNorm.huggingface) + ".weight", mlp_norm_);
  for (const Role role : {Role::v, Role::up}) {
    const std::vector<float> values = bias(role);
    if (!values.empty() && changes_bias(role)) write(module_name(layer_, role) + ".bias", values);
  }
}

}  // namespace neap
