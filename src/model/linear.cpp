#include "model/linear.h"

#include <algorithm>
#include <vector>

#include "base/parallel.h"
#include "linalg/matmul.h"

namespace neap {
namespace {

class DenseLinear final : public Linear {
 public:
  DenseLinear(MatrixView<const float> weight, std::span<const float> bias, Operand type)
      : weights_(weight, type), bias_(bias.begin(), bias.end()), type_(type) {}

  std::size_t in() const override { return weights_.in(); }
  std::size_t out() const override { return weights_.out(); }
  void apply(MatrixView<const float> x, MatrixView<float> y) const override {
    weights_.multiply(x, bias_, y);
  }
  LinearCost cost() const override {
    return {in() * out() * operand_bytes(type_) + bias_.size() * sizeof(float), arithmetic_of(type_)};
  }

 private:
  PackedWeights weights_;
  std::vector<float> bias_;
  Operand type_;
};

}  // namespace

void Linear::apply_together(std::span<const LinearCall> calls, MatrixView<const float> x) const {
  for (const LinearCall& call : calls) call.linear->apply(x, call.y);
}

void apply_all(std::span<const LinearCall> calls, MatrixView<const float> x) {
  constexpr std::size_t kFewRows = 4;
  const Linear& first = *calls.front().linear;
  if (std::ranges::all_of(calls, [&](const LinearCall& c) { return first.shares_inputs(*c.linear); })) {
    first.apply_together(calls, x);
  } else if (x.rows <= kFewRows && static_cast<std::size_t>(thread_count()) <= calls.size()) {
    parallel_for(calls.size(), [&](std::size_t i) { calls[i].linear->apply(x, calls[i].y); });
  } else {
    for (const LinearCall& call : calls) call.linear->apply(x, call.y);
  }
}

Arithmetic arithmetic_of(Operand type) {
  return type == Operand::bf16 ? Arithmetic::bf16 : Arithmetic::f32;
}

std::unique_ptr<Linear> make_dense_linear(MatrixView<const float> weight,
                                          std::span<const float> bias, Precision precision) {
  const Operand type = precision == Precision::bf16 ? bf16_operand() : Operand::f32;
  return std::make_unique<DenseLinear>(weight, bias, type);
}

}  // namespace neap
