// What a product for one token takes beside reading its weights. Integers of 4, 3 and 2 bits in groups
// of 64 on int8 activations, in a large and a small matrix, by turns in slices of a fraction of a
// millisecond, as a pass of a model runs them; of all slices the time that a fifth stays below, which
// other programs on the machine move little. The two sizes tell time per byte and time per product apart.
//
//   OMP_NUM_THREADS=2 OMP_WAIT_POLICY=active bench_products [ROUNDS]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "base/parallel.h"
#include "codec/random_tensor.h"
#include "kernels/group_matmul.h"
#include "measure.h"
#include "support/random_matrix.h"

namespace neap {
namespace {

constexpr std::size_t kDistinctBytes = std::size_t{96} << 20;
constexpr std::int64_t kCols = 1536, kSmall = 576, kLarge = 4 * kSmall;

// Matrices of one kind, more of them than a cache holds.
class Subject {
 public:
  Subject(int bits, std::int64_t rows) : y_(1, static_cast<std::size_t>(rows)) {
    const QuantizedTensor tensor = random_tensor({.bits = bits, .group = 64}, rows, kCols, 1);
    do {
      weights_.push_back(std::make_unique<PackedGroupInt>(tensor));
    } while (weights_.size() * bytes() < kDistinctBytes);
    inputs_.round(weights_[0]->int8_blocks(), random_matrix(1, kCols, 2));
  }

  std::size_t bytes() const { return weights_[0]->bytes(); }
  // All matrices once.
  void run() {
    const std::size_t slice = std::max<std::size_t>(1, (std::size_t{8} << 20) / bytes());
    with_team([&] {
      for (std::size_t first = 0; first + slice <= weights_.size(); first += slice) {
        const double start = now();
        for (std::size_t i = first; i < first + slice; ++i) multiply(*weights_[i], inputs_, {}, y_);
        seconds_.push_back((now() - start) / static_cast<double>(slice));
      }
    });
  }
  // Of a product.
  double seconds() {
    std::sort(seconds_.begin(), seconds_.end());
    return seconds_[seconds_.size() / 5];
  }

 private:
  std::vector<std::unique_ptr<const PackedGroupInt>> weights_;
  Int8Inputs inputs_;
  Matrix<float> y_;
  std::vector<double> seconds_;
};

void print(int bits, Subject& small, Subject& large) {
  const double bytes = static_cast<double>(small.bytes()), more = static_cast<double>(large.bytes()) - bytes;
  const double rate = more / (large.seconds() - small.seconds());
  std::printf("%d bits: %.1f us, %.1f GB/s; four times the rows %.1f GB/s; %.1f GB/s and %.1f us a product\n", bits,
              1e6 * small.seconds(), 1e-9 * bytes / small.seconds(),
              1e-9 * static_cast<double>(large.bytes()) / large.seconds(), 1e-9 * rate,
              1e6 * (small.seconds() - bytes / rate));
}

void run(int rounds) {
  constexpr int kBits[] = {4, 3, 2};
  std::vector<Subject> small, large;
  for (const int bits : kBits) small.emplace_back(bits, kSmall), large.emplace_back(bits, kLarge);
  for (int round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < small.size(); ++i) small[i].run(), large[i].run();
  }
  for (std::size_t i = 0; i < small.size(); ++i) print(kBits[i], small[i], large[i]);
}

}  // namespace
}  // namespace neap

int main(int argc, char** argv) { neap::run(argc > 1 ? std::max(1, std::atoi(argv[1])) : 40); }
