#include "solve/histogram_codebook.h"

#include <algorithm>
#include <limits>

#include "neap/check.h"

namespace neap {
namespace {

constexpr int kLloydSteps = 100;
constexpr double kSettled = 1e-7;  // share of the error that a step must gain

double unit_value(std::size_t place) {
  return (static_cast<double>(place) - kLargestPoint) / kPointsPerUnit;
}

struct LloydStep {
  double error = 0;
  RealCodebook means;
  std::size_t worst = 0;  // the place that costs most
  int idle = -1;          // an entry that nothing is nearest to, or -1
};

LloydStep lloyd_step(const Histogram& histogram, const RealCodebook& codebook) {
  LloydStep step{.error = 0, .means = codebook};
  RealCodebook weights{}, sums{};
  std::size_t entry = 0;
  double worst = -1;
  for (std::size_t place = 0; place < kPoints; ++place) {
    const double value = unit_value(place), weight = histogram[place];
    while (entry + 1 < codebook.size() && value > (codebook[entry] + codebook[entry + 1]) / 2)
      ++entry;
    if (weight == 0) continue;
    const double cost = weight * (value - codebook[entry]) * (value - codebook[entry]);
    weights[entry] += weight;
    sums[entry] += weight * value;
    step.error += cost;
    if (cost > worst) worst = cost, step.worst = place;
  }
  for (std::size_t i = 0; i < codebook.size(); ++i) {
    if (weights[i] > 0) step.means[i] = sums[i] / weights[i];
    if (weights[i] == 0 && step.idle < 0) step.idle = static_cast<int>(i);
  }
  return step;
}

// Sums over places below each, of weight, weight x value and weight x value^2.
class Moments {
 public:
  explicit Moments(const Histogram& histogram) : sums_(kPoints + 1) {
    for (std::size_t place = 0; place < kPoints; ++place) {
      const double value = unit_value(place), weight = histogram[place];
      const auto& s = sums_[place];
      sums_[place + 1] = {s[0] + weight, s[1] + weight * value, s[2] + weight * value * value};
    }
  }

  // Squared error of the places [first, last) with this entry.
  double error(std::size_t first, std::size_t last, int entry) const {
    const double w = sums_[last][0] - sums_[first][0], v = sums_[last][1] - sums_[first][1],
                 v2 = sums_[last][2] - sums_[first][2];
    return v2 - 2.0 * entry * v + static_cast<double>(entry) * entry * w;
  }

  // Of what lies between two neighbouring entries, each value with the nearer one.
  double between(int low, int high) const {
    const std::size_t middle = place_of(32 * (low + high)) + 1;
    return error(place_of(64 * low), middle, low) + error(middle, place_of(64 * high), high);
  }
  double below(int entry) const { return error(0, place_of(64 * entry), entry); }
  double above(int entry) const { return error(place_of(64 * entry), kPoints, entry); }

 private:
  static std::size_t place_of(int n) { return static_cast<std::size_t>(n + kLargestPoint); }
  std::vector<std::array<double, 3>> sums_;
};

}  // namespace

RealCodebook quantile_codebook(const Histogram& histogram) {
  double total = 0;
  for (const double weight : histogram) total += weight;
  NEAP_CHECK(total > 0);
  RealCodebook codebook{};
  double below = 0;
  std::size_t place = 0;
  for (std::size_t i = 0; i < codebook.size(); ++i) {
    const double target = total * (static_cast<double>(i) + 0.5) / kCodebookEntries;
    while (place + 1 < kPoints && below + histogram[place] < target) below += histogram[place++];
    codebook[i] = unit_value(place);
  }
  return codebook;
}

RealCodebook lloyd_max(const Histogram& histogram, const RealCodebook& start) {
  RealCodebook codebook = start;
  double last = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kLloydSteps; ++i) {
    LloydStep step = lloyd_step(histogram, codebook);
    NEAP_CHECK(step.error <= last * (1 + 1e-9));
    const bool settled = last - step.error <= kSettled * step.error;
    if (step.error == 0 || (settled && step.idle < 0)) break;
    last = step.error;
    codebook = step.means;
    if (step.idle >= 0 && !settled)
      codebook[static_cast<std::size_t>(step.idle)] = unit_value(step.worst);
    std::sort(codebook.begin(), codebook.end());
    if (settled) break;
  }
  return codebook;
}

Codebook best_integer_codebook(const Histogram& histogram) {
  constexpr int kValues = 2 * kLargestEntry + 1;
  const Moments moments(histogram);
  // least[k][v]: of values up to entry v - 31, if that is the k-th entry; before[k][v]: the entry
  // before it.
  std::array<std::array<double, kValues>, kCodebookEntries> least;
  std::array<std::array<int, kValues>, kCodebookEntries> before;
  for (auto& row : least) row.fill(std::numeric_limits<double>::infinity());
  for (auto& row : before) row.fill(-1);
  std::array<std::array<double, kValues>, kValues> gap{};
  for (int a = 0; a < kValues; ++a) {
    const auto at = static_cast<std::size_t>(a);
    least[0][at] = moments.below(a - kLargestEntry);
    for (int b = a + 1; b < kValues; ++b) {
      gap[at][static_cast<std::size_t>(b)] = moments.between(a - kLargestEntry, b - kLargestEntry);
    }
  }
  for (std::size_t k = 1; k < kCodebookEntries; ++k) {
    for (std::size_t b = k; b < kValues; ++b) {
      for (std::size_t a = k - 1; a < b; ++a) {
        const double error = least[k - 1][a] + gap[a][b];
        if (error < least[k][b]) least[k][b] = error, before[k][b] = static_cast<int>(a);
      }
    }
  }
  std::size_t last = kCodebookEntries - 1;
  double best = std::numeric_limits<double>::infinity();
  for (std::size_t v = last; v < kValues; ++v) {
    const double error =
        least[kCodebookEntries - 1][v] + moments.above(static_cast<int>(v) - kLargestEntry);
    if (error < best) best = error, last = v;
  }
  Codebook codebook{};
  for (std::size_t k = kCodebookEntries; k-- > 0;) {
    codebook[k] = static_cast<std::int8_t>(static_cast<int>(last) - kLargestEntry);
    if (k > 0) last = static_cast<std::size_t>(before[k][last]);
  }
  return codebook;
}

}  // namespace neap
