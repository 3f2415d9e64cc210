// A uniform sample of the block arrays of many matrices, taken in one pass: every array gets a
// random number that depends on the seed and its place alone, and those with the smallest are kept.
// So the sample depends neither on threads nor on the order in which the matrices come.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "neap/matrix.h"

namespace neap {

struct ArraySample {
  Matrix<float> arrays;       // (count, block_array)
  std::vector<float> maxima;  // largest |x| of the row that each is from
  std::vector<float> norms;   // mean x^2 of that row, > 0
  std::int64_t seen = 0;      // arrays that could have been drawn
};

class ArrayReservoir {
 public:
  ArrayReservoir(std::size_t block_array, std::size_t arrays, std::uint64_t seed);

  // All whole arrays of these rows that are not all zero. rows: finite; `first_row` is their place
  // in what `source` names.
  void add(const std::string& source, std::size_t first_row, MatrixView<const float> rows);

  ArraySample take() const;

 private:
  struct Kept {
    std::uint64_t key;
    std::size_t slot;
    bool operator<(const Kept& other) const { return key < other.key; }
  };
  void offer(std::uint64_t key, const float* x, float maximum, float norm);

  std::size_t block_array_, capacity_;
  std::uint64_t seed_;
  std::int64_t seen_ = 0;
  std::vector<Kept> heap_;  // largest key on top
  std::vector<float> values_, maxima_, norms_;
};

// Rows of 1024 independent values, by turns Gaussian, Laplace and Student-t (5 degrees of freedom),
// as many as give `arrays` arrays in all.
ArraySample synthetic_arrays(std::size_t block_array, std::size_t arrays, std::uint64_t seed);

// One after another.
ArraySample join(const ArraySample& a, const ArraySample& b);

}  // namespace neap
