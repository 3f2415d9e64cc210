// Non-owning row-major matrices. A view never outlives what it looks at; copies are cheap.
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "neap/check.h"

namespace neap {

template <class T>
struct MatrixView {
  T* data = nullptr;
  std::size_t rows = 0, cols = 0;
  std::size_t stride = 0;  // elements from one row to the next, >= cols

  MatrixView() = default;
  MatrixView(T* data_, std::size_t rows_, std::size_t cols_)
      : MatrixView(data_, rows_, cols_, cols_) {}
  MatrixView(T* data_, std::size_t rows_, std::size_t cols_, std::size_t stride_)
      : data(data_), rows(rows_), cols(cols_), stride(stride_) {}
  // A mutable view reads as a const one.
  template <class U>
    requires(std::is_const_v<T> && std::is_same_v<std::remove_const_t<T>, U>)
  MatrixView(const MatrixView<U>& other)  // NOLINT: implicit by design
      : MatrixView(other.data, other.rows, other.cols, other.stride) {}

  T* row(std::size_t r) const { return data + r * stride; }
  std::span<T> row_span(std::size_t r) const { return {row(r), cols}; }
  T& operator()(std::size_t r, std::size_t c) const { return data[r * stride + c]; }
  bool empty() const { return rows == 0 || cols == 0; }
  bool contiguous() const { return stride == cols; }

  MatrixView block(std::size_t first_row, std::size_t first_col, std::size_t n_rows,
                   std::size_t n_cols) const {
    NEAP_CHECK(first_row + n_rows <= rows && first_col + n_cols <= cols);
    return {data + first_row * stride + first_col, n_rows, n_cols, stride};
  }
  MatrixView row_range(std::size_t first, std::size_t count) const {
    return block(first, 0, count, cols);
  }
};

// An owning row-major matrix, contiguous; of zeros, unless made by unset().
template <class T>
class Matrix {
 public:
  Matrix() = default;
  Matrix(std::size_t rows, std::size_t cols) : rows_(rows), cols_(cols), values_(rows * cols, T{}) {}
  // For whoever writes every value before reading any: clearing large matrices is one thread's work.
  static Matrix unset(std::size_t rows, std::size_t cols) {
    Matrix matrix;
    matrix.rows_ = rows;
    matrix.cols_ = cols;
    matrix.values_.resize(rows * cols);
    return matrix;
  }

  std::size_t rows() const { return rows_; }
  std::size_t cols() const { return cols_; }
  T* data() { return values_.data(); }
  const T* data() const { return values_.data(); }
  T* row(std::size_t r) { return data() + r * cols_; }
  const T* row(std::size_t r) const { return data() + r * cols_; }
  T& operator()(std::size_t r, std::size_t c) { return values_[r * cols_ + c]; }
  const T& operator()(std::size_t r, std::size_t c) const { return values_[r * cols_ + c]; }
  bool empty() const { return values_.empty(); }

  MatrixView<T> view() { return {data(), rows_, cols_}; }
  MatrixView<const T> view() const { return {data(), rows_, cols_}; }
  operator MatrixView<T>() { return view(); }              // NOLINT: implicit by design
  operator MatrixView<const T>() const { return view(); }  // NOLINT

 private:
  // Leaves what is not given a value as it is.
  struct Allocator : std::allocator<T> {
    template <class U>
    struct rebind {
      using other = Allocator;
    };
    template <class U, class... Arguments>
    void construct(U* at, Arguments&&... arguments) {
      if constexpr (sizeof...(Arguments) == 0) {
        ::new (static_cast<void*>(at)) U;
      } else {
        ::new (static_cast<void*>(at)) U(std::forward<Arguments>(arguments)...);
      }
    }
  };

  std::size_t rows_ = 0, cols_ = 0;
  std::vector<T, Allocator> values_;
};

}  // namespace neap
