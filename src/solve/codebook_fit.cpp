#include "solve/codebook_fit.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/parallel.h"
#include "base/random.h"
#include "solve/codebook_refine.h"
#include "solve/histogram_codebook.h"

namespace neap {
namespace {

constexpr std::size_t kTile = 4096;  // blocks
constexpr double kSlack = 1e-6;      // errors are looked up as fp32
constexpr std::size_t kWidestBlock = 8;

using Blocks = MatrixView<const std::int16_t>;

std::size_t place_of(std::int16_t n) { return static_cast<std::size_t>(n + kLargestPoint); }

struct Assignment {
  double error = 0;  // weighted sum
  std::vector<std::uint8_t> selectors;
  std::vector<float> errors;  // of each block, not weighted
};

void assign_tile(Blocks blocks, const std::vector<ErrorTable>& tables, std::size_t first,
                 std::size_t last, Assignment& out) {
  std::fill(out.errors.begin() + static_cast<std::ptrdiff_t>(first),
            out.errors.begin() + static_cast<std::ptrdiff_t>(last),
            std::numeric_limits<float>::infinity());
  for (std::size_t c = 0; c < tables.size(); ++c) {
    const float* table = tables[c].data();
    for (std::size_t b = first; b < last; ++b) {
      float error = 0;
      for (std::size_t i = 0; i < blocks.cols; ++i) error += table[place_of(blocks(b, i))];
      if (error < out.errors[b])
        out.errors[b] = error, out.selectors[b] = static_cast<std::uint8_t>(c);
    }
  }
}

Assignment assign(Blocks blocks, std::span<const float> weights,
                  const std::vector<ErrorTable>& tables) {
  Assignment out{0, std::vector<std::uint8_t>(blocks.rows), std::vector<float>(blocks.rows)};
  const std::size_t tiles = (blocks.rows + kTile - 1) / kTile;
  std::vector<double> sums(tiles);
  parallel_for(tiles, [&](std::size_t t) {
    const std::size_t first = t * kTile, last = std::min(blocks.rows, first + kTile);
    assign_tile(blocks, tables, first, last, out);
    for (std::size_t b = first; b < last; ++b)
      sums[t] += static_cast<double>(weights[b]) * out.errors[b];
  });
  for (const double sum : sums) out.error += sum;
  return out;
}

// Of the blocks that `belongs` says yes to.
template <class Belongs>
Histogram histogram_of(Blocks blocks, std::span<const float> weights, const Belongs& belongs) {
  Histogram histogram(kPoints);
  for (std::size_t b = 0; b < blocks.rows; ++b) {
    if (!belongs(b)) continue;
    for (std::size_t i = 0; i < blocks.cols; ++i) histogram[place_of(blocks(b, i))] += weights[b];
  }
  return histogram;
}

bool is_empty(const Histogram& histogram) {
  return std::all_of(histogram.begin(), histogram.end(), [](double weight) { return weight == 0; });
}

// A codebook for the worse half of the costliest cluster: where one more codebook has most to gain.
Histogram worse_half(Blocks blocks, std::span<const float> weights, const Assignment& now,
                     std::size_t codebooks) {
  std::vector<double> cost(codebooks), weight(codebooks);
  for (std::size_t b = 0; b < blocks.rows; ++b) {
    cost[now.selectors[b]] += static_cast<double>(weights[b]) * now.errors[b];
    weight[now.selectors[b]] += weights[b];
  }
  const auto costliest =
      static_cast<std::size_t>(std::max_element(cost.begin(), cost.end()) - cost.begin());
  const double mean = cost[costliest] / weight[costliest];
  return histogram_of(blocks, weights, [&](std::size_t b) {
    return now.selectors[b] == costliest && now.errors[b] > mean;
  });
}

// The two ways to improve a codebook on its cluster.
RealCodebook improve(const Histogram& histogram, const RealCodebook& codebook) {
  return lloyd_max(histogram, codebook);
}
Codebook improve(const Histogram& histogram, const Codebook&) {
  return best_integer_codebook(histogram);
}
RealCodebook fresh(const Histogram& histogram, const RealCodebook&) {
  return lloyd_max(histogram, quantile_codebook(histogram));
}
Codebook fresh(const Histogram& histogram, const Codebook&) {
  return best_integer_codebook(histogram);
}

// Every codebook improved on its cluster; those without one set anew, returning how many.
template <class Entries>
int improve_all(Blocks blocks, std::span<const float> weights, const Assignment& now,
                std::vector<Entries>& codebooks) {
  std::vector<std::uint8_t> idle(codebooks.size());
  parallel_for(codebooks.size(), [&](std::size_t c) {
    const Histogram histogram =
        histogram_of(blocks, weights, [&](std::size_t b) { return now.selectors[b] == c; });
    idle[c] = is_empty(histogram);
    if (!idle[c]) codebooks[c] = improve(histogram, codebooks[c]);
  });
  const auto first_idle = std::find(idle.begin(), idle.end(), 1);
  if (first_idle == idle.end()) return 0;
  // One at a time: a second one would get the same blocks.
  const Histogram histogram = worse_half(blocks, weights, now, codebooks.size());
  if (is_empty(histogram)) return 0;
  Entries& codebook = codebooks[static_cast<std::size_t>(first_idle - idle.begin())];
  codebook = fresh(histogram, codebook);
  return 1;
}

class Fitter {
 public:
  Fitter(Blocks blocks, std::span<const float> weights, const CodebookFitOptions& options)
      : blocks_(blocks), weights_(weights), options_(options) {
    NEAP_CHECK(weights.size() == blocks.rows && blocks.cols <= kWidestBlock);
    for (const float weight : weights)
      total_ += static_cast<double>(weight) * static_cast<double>(blocks.cols);
    NEAP_CHECK(total_ > 0);
  }

  // Assigns and improves in turn. Returns the error of `codebooks`, per value.
  template <class Entries>
  double alternate(int start, std::vector<Entries>& codebooks, CodebookFit& fit) const {
    constexpr auto kPhase = std::is_same_v<Entries, RealCodebook> ? CodebookFitStep::Phase::real
                                                                  : CodebookFitStep::Phase::integer;
    double last = std::numeric_limits<double>::infinity();
    int revived = 0;
    for (int i = 0;; ++i) {
      const Assignment now = assign(blocks_, weights_, tables_of(codebooks));
      const double error = now.error / total_;
      NEAP_CHECK(error <= last * (1 + kSlack));
      note({start, kPhase, error, revived}, fit);
      if (i == options_.iterations || (revived == 0 && last - error <= options_.tolerance * error))
        return error;
      last = error;
      revived = improve_all(blocks_, weights_, now, codebooks);
    }
  }

  std::vector<RealCodebook> first_codebooks(int start) const;

  // From real codebooks to integer ones, which replace the fit's if they are better.
  void improve_from(int start, std::vector<RealCodebook>& real, CodebookFit& fit) const;
  // The last improvement of the best codebooks, and their order.
  void finish(CodebookFit& fit) const;

  template <class Entries>
  static std::vector<ErrorTable> tables_of(const std::vector<Entries>& codebooks) {
    std::vector<ErrorTable> tables;
    for (const Entries& entries : codebooks) tables.push_back(error_table(entries));
    return tables;
  }

 private:
  void note(const CodebookFitStep& step, CodebookFit& fit) const {
    fit.steps.push_back(step);
    if (options_.on_step) options_.on_step(step);
  }
  Matrix<float> sorted_blocks() const;
  std::vector<std::uint8_t> nearest_seed(const Matrix<float>& shapes, int start) const;

  Blocks blocks_;
  std::span<const float> weights_;
  CodebookFitOptions options_;
  double total_ = 0;
};

Matrix<float> Fitter::sorted_blocks() const {
  Matrix<float> shapes(blocks_.rows, blocks_.cols);
  for (std::size_t b = 0; b < blocks_.rows; ++b) {
    for (std::size_t i = 0; i < blocks_.cols; ++i) shapes(b, i) = blocks_(b, i);
    std::sort(shapes.row(b), shapes.row(b) + blocks_.cols);
  }
  return shapes;
}

// k-means++ (Arthur, Vassilvitskii 2007): a seed is drawn with probability proportional to its
// weight and squared distance from the nearest seed so far; here between blocks in sorted order,
// because a codebook does not care which place a value stands at.
std::vector<std::uint8_t> Fitter::nearest_seed(const Matrix<float>& shapes, int start) const {
  std::vector<double> distance(shapes.rows(), 1.0);
  std::vector<std::uint8_t> nearest(shapes.rows());
  for (int s = 0; s < options_.codebooks; ++s) {
    double total = 0;
    for (std::size_t b = 0; b < shapes.rows(); ++b) total += weights_[b] * distance[b];
    const auto bits =
        philox({static_cast<std::uint32_t>(s), static_cast<std::uint32_t>(start), 0, 0},
               stream_key(options_.seed, "codebook seeds"));
    double left = uniform_double(bits[0], bits[1]) * total;
    std::size_t seed = 0;
    while (seed + 1 < shapes.rows() && left >= weights_[seed] * distance[seed]) {
      left -= weights_[seed] * distance[seed];
      ++seed;
    }
    for (std::size_t b = 0; b < shapes.rows(); ++b) {
      double d = 0;
      for (std::size_t i = 0; i < shapes.cols(); ++i) {
        const double e = shapes(b, i) - shapes(seed, i);
        d += e * e;
      }
      if (s == 0 || d < distance[b]) distance[b] = d, nearest[b] = static_cast<std::uint8_t>(s);
    }
  }
  return nearest;
}

std::vector<RealCodebook> Fitter::first_codebooks(int start) const {
  const std::vector<std::uint8_t> nearest = nearest_seed(sorted_blocks(), start);
  const Histogram all = histogram_of(blocks_, weights_, [](std::size_t) { return true; });
  std::vector<RealCodebook> codebooks(static_cast<std::size_t>(options_.codebooks));
  for (std::size_t c = 0; c < codebooks.size(); ++c) {
    const Histogram own =
        histogram_of(blocks_, weights_, [&](std::size_t b) { return nearest[b] == c; });
    codebooks[c] = fresh(is_empty(own) ? all : own, codebooks[c]);
  }
  return codebooks;
}

Codebooks rounded(const std::vector<RealCodebook>& real) {
  Codebooks codebooks(real.size());
  for (std::size_t c = 0; c < real.size(); ++c) {
    for (std::size_t i = 0; i < kCodebookEntries; ++i) {
      codebooks[c][i] = static_cast<std::int8_t>(std::clamp(std::lround(real[c][i]),
                                                            static_cast<long>(-kLargestEntry),
                                                            static_cast<long>(kLargestEntry)));
    }
  }
  return codebooks;
}

// Widths first; what is in front does not matter to the error, but a reader sees what is what.
void order(Codebooks& codebooks) {
  std::sort(codebooks.begin(), codebooks.end(), [](const Codebook& a, const Codebook& b) {
    const int width_a = a.back() - a.front(), width_b = b.back() - b.front();
    return width_a != width_b ? width_a < width_b : a < b;
  });
}

void Fitter::improve_from(int start, std::vector<RealCodebook>& real, CodebookFit& fit) const {
  const double real_error = alternate(start, real, fit);
  Codebooks codebooks = rounded(real);
  const std::size_t first_step = fit.steps.size();
  const double error = alternate(start, codebooks, fit);
  if (error >= fit.error) return;
  fit.codebooks = codebooks;
  fit.real_error = real_error;
  fit.rounded_error = fit.steps[first_step].error;
  fit.error = error;
  fit.best_start = start;
}

void Fitter::finish(CodebookFit& fit) const {
  for (const double sum : refine_codebooks(blocks_, weights_, fit.codebooks, options_.sweeps)) {
    const double error = sum / total_;
    NEAP_CHECK(error <= fit.error * (1 + kSlack));
    note({fit.best_start, CodebookFitStep::Phase::refined, error, 0}, fit);
    fit.error = error;
  }
  order(fit.codebooks);
}

}  // namespace

CodebookFit fit_codebooks(MatrixView<const std::int16_t> blocks, std::span<const float> weights,
                          const CodebookFitOptions& options) {
  NEAP_CHECK(options.starts > 0 && options.codebooks > 0);
  const Fitter fitter(blocks, weights, options);
  CodebookFit fit;
  fit.error = std::numeric_limits<double>::infinity();
  for (int start = 0; start < options.starts; ++start) {
    std::vector<RealCodebook> real = fitter.first_codebooks(start);
    fitter.improve_from(start, real, fit);
  }
  fitter.finish(fit);
  return fit;
}

CodebookFit refit_codebooks(MatrixView<const std::int16_t> blocks, std::span<const float> weights,
                            const Codebooks& codebooks, const CodebookFitOptions& options) {
  const Fitter fitter(blocks, weights, options);
  CodebookFit fit;
  fit.codebooks = codebooks;
  fit.error = fitter.alternate(0, fit.codebooks, fit);
  std::vector<RealCodebook> real(codebooks.size());
  for (std::size_t c = 0; c < codebooks.size(); ++c)
    std::copy(codebooks[c].begin(), codebooks[c].end(), real[c].begin());
  fitter.improve_from(1, real, fit);
  fitter.finish(fit);
  return fit;
}

double codebook_error(MatrixView<const std::int16_t> blocks, std::span<const float> weights,
                      const Codebooks& codebooks) {
  return assign(blocks, weights, Fitter::tables_of(codebooks)).error;
}

}  // namespace neap
