#include "quantize/array_reservoir.h"

#include <algorithm>
#include <cmath>

#include "base/random.h"

namespace neap {
namespace {

constexpr std::size_t kSyntheticRow = 1024;
constexpr int kDegreesOfFreedom = 5;

double normal(std::uint64_t key, std::uint32_t index, std::uint32_t draw) {
  const auto bits = philox({index, draw, 0, 0}, key);
  const double u = uniform_double(bits[0], bits[1]), v = uniform_double(bits[2], bits[3]);
  return std::sqrt(-2 * std::log1p(-u)) * std::cos(2 * M_PI * v);
}

double laplace(std::uint64_t key, std::uint32_t index) {
  const auto bits = philox({index, 0, 0, 0}, key);
  const double magnitude = -std::log1p(-uniform_double(bits[0], bits[1]));
  return bits[2] & 1 ? magnitude : -magnitude;
}

double student(std::uint64_t key, std::uint32_t index) {
  double squares = 0;
  for (std::uint32_t i = 1; i <= kDegreesOfFreedom; ++i)
    squares += std::pow(normal(key, index, i), 2);
  return normal(key, index, 0) / std::sqrt(squares / kDegreesOfFreedom);
}

}  // namespace

ArrayReservoir::ArrayReservoir(std::size_t block_array, std::size_t arrays, std::uint64_t seed)
    : block_array_(block_array), capacity_(arrays), seed_(seed) {
  NEAP_CHECK(arrays > 0);
}

void ArrayReservoir::offer(std::uint64_t key, const float* x, float maximum, float norm) {
  ++seen_;
  std::size_t slot = heap_.size();
  if (slot == capacity_) {
    if (key >= heap_.front().key) return;
    slot = heap_.front().slot;
    std::pop_heap(heap_.begin(), heap_.end());
    heap_.back() = {key, slot};
    std::copy_n(x, block_array_,
                values_.begin() + static_cast<std::ptrdiff_t>(slot * block_array_));
    maxima_[slot] = maximum;
    norms_[slot] = norm;
  } else {
    heap_.push_back({key, slot});
    values_.insert(values_.end(), x, x + block_array_);
    maxima_.push_back(maximum);
    norms_.push_back(norm);
  }
  std::push_heap(heap_.begin(), heap_.end());
}

void ArrayReservoir::add(const std::string& source, std::size_t first_row,
                         MatrixView<const float> rows) {
  const std::uint64_t stream = stream_key(seed_, source);
  for (std::size_t r = 0; r < rows.rows; ++r) {
    const float* x = rows.row(r);
    double squares = 0;
    float maximum = 0;
    for (std::size_t c = 0; c < rows.cols; ++c) {
      squares += static_cast<double>(x[c]) * x[c];
      maximum = std::max(maximum, std::abs(x[c]));
    }
    const auto norm = static_cast<float>(squares / static_cast<double>(rows.cols));
    for (std::size_t a = 0; (a + 1) * block_array_ <= rows.cols; ++a) {
      const float* array = x + a * block_array_;
      if (std::all_of(array, array + block_array_, [](float v) { return v == 0; })) continue;
      const auto bits = philox(
          {static_cast<std::uint32_t>(first_row + r), static_cast<std::uint32_t>(a), 0, 0}, stream);
      offer((std::uint64_t{bits[0]} << 32) | bits[1], array, maximum, norm);
    }
  }
}

ArraySample ArrayReservoir::take() const {
  std::vector<Kept> order = heap_;
  std::sort(order.begin(), order.end());
  ArraySample sample;
  sample.arrays = Matrix<float>(order.size(), block_array_);
  sample.seen = seen_;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const std::size_t slot = order[i].slot;
    std::copy_n(values_.begin() + static_cast<std::ptrdiff_t>(slot * block_array_), block_array_,
                sample.arrays.row(i));
    sample.maxima.push_back(maxima_[slot]);
    sample.norms.push_back(norms_[slot]);
  }
  return sample;
}

ArraySample synthetic_arrays(std::size_t block_array, std::size_t arrays, std::uint64_t seed) {
  const std::size_t rows = (arrays * block_array + kSyntheticRow - 1) / kSyntheticRow;
  Matrix<float> values(rows, kSyntheticRow);
  const std::uint64_t key = stream_key(seed, "synthetic arrays");
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < kSyntheticRow; ++c) {
      const auto index = static_cast<std::uint32_t>(r * kSyntheticRow + c);
      const double value = r % 3 == 0   ? normal(key, index, 0)
                           : r % 3 == 1 ? laplace(key, index)
                                        : student(key, index);
      values(r, c) = static_cast<float>(value);
    }
  }
  ArrayReservoir reservoir(block_array, arrays, seed);
  reservoir.add("synthetic", 0, values);
  return reservoir.take();
}

ArraySample join(const ArraySample& a, const ArraySample& b) {
  NEAP_CHECK(a.arrays.cols() == b.arrays.cols());
  ArraySample out{Matrix<float>(a.arrays.rows() + b.arrays.rows(), a.arrays.cols()), a.maxima,
                  a.norms, a.seen + b.seen};
  std::copy_n(a.arrays.data(), a.arrays.rows() * a.arrays.cols(), out.arrays.data());
  std::copy_n(b.arrays.data(), b.arrays.rows() * b.arrays.cols(), out.arrays.row(a.arrays.rows()));
  out.maxima.insert(out.maxima.end(), b.maxima.begin(), b.maxima.end());
  out.norms.insert(out.norms.end(), b.norms.begin(), b.norms.end());
  return out;
}

}  // namespace neap
