#include "calib/activations.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/half.h"
#include "base/parallel.h"
#include "neap/error.h"

namespace neap {
namespace {

constexpr std::size_t kTileRows = 64;

int open_nameless(const std::string& directory) {
  std::string path = directory + "/.neap-activations-XXXXXX";
  const int file = ::mkstemp(path.data());
  if (file < 0) {
    throw Error(ErrorCode::io, std::string("cannot make a scratch file: ") + std::strerror(errno),
                {.file = path});
  }
  ::unlink(path.c_str());
  return file;
}

std::size_t tiles_of(std::size_t rows) { return (rows + kTileRows - 1) / kTileRows; }

}  // namespace

Activations::Activations(std::vector<std::size_t> rows, std::size_t cols, Precision precision,
                         std::uint64_t budget, const std::string& scratch)
    : rows_(std::move(rows)), cols_(cols), element_(precision == Precision::bf16 ? 2 : 4),
      scratch_(scratch) {
  offsets_.push_back(0);
  for (std::size_t w = 0; w < rows_.size(); ++w) offsets_.push_back(offsets_.back() + bytes_of(w));
  if (offsets_.back() <= budget) {
    memory_.resize(offsets_.back());
    return;
  }
  file_ = open_nameless(scratch_);
  if (const int error = ::posix_fallocate(file_, 0, static_cast<off_t>(offsets_.back()))) {
    ::close(file_);
    throw Error(ErrorCode::io,
                std::string("no room for the scratch file of the calibration's activations: ") +
                    std::strerror(error),
                {.file = scratch_, .expected = std::to_string(offsets_.back()) + " bytes"});
  }
}

Activations::~Activations() {
  if (file_ >= 0) ::close(file_);
}

namespace {

// `transfer` is pread or pwrite.
template <class Transfer, class Bytes>
void transfer_all(Transfer transfer, int file, Bytes bytes, std::size_t count, std::uint64_t offset,
                  const std::string& scratch) {
  while (count > 0) {
    const ssize_t n = transfer(file, bytes, count, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      throw Error(ErrorCode::io,
                  std::string("scratch file of the calibration's activations: ") +
                      (n < 0 ? std::strerror(errno) : "it ended early"),
                  {.file = scratch, .offset = offset});
    }
    bytes += n;
    count -= static_cast<std::size_t>(n);
    offset += static_cast<std::uint64_t>(n);
  }
}

}  // namespace

void Activations::store(std::size_t window, MatrixView<const float> values) {
  NEAP_CHECK(values.rows == rows_[window] && values.cols <= cols_);
  const std::size_t row_bytes = values.cols * element_;
  std::vector<std::byte> staging(file_ >= 0 ? values.rows * row_bytes : 0);
  std::byte* to = file_ >= 0 ? staging.data() : memory_.data() + offsets_[window];
  parallel_for(tiles_of(values.rows), [&](std::size_t tile) {
    for (std::size_t r = tile * kTileRows; r < std::min(values.rows, (tile + 1) * kTileRows); ++r) {
      std::byte* row = to + r * row_bytes;
      if (element_ == 2) {
        float_to_bf16(values.row(r), reinterpret_cast<Bf16*>(row), values.cols);
      } else {
        std::memcpy(row, values.row(r), row_bytes);
      }
    }
  });
  if (file_ >= 0) {
    transfer_all(::pwrite, file_, const_cast<const std::byte*>(to), staging.size(),
                 offsets_[window], scratch_);
  }
}

void Activations::load(std::size_t window, MatrixView<float> values) const {
  NEAP_CHECK(values.rows == rows_[window] && values.cols <= cols_);
  const std::size_t row_bytes = values.cols * element_;
  std::vector<std::byte> staging(file_ >= 0 ? values.rows * row_bytes : 0);
  if (file_ >= 0) {
    transfer_all(::pread, file_, staging.data(), staging.size(), offsets_[window], scratch_);
  }
  const std::byte* from = file_ >= 0 ? staging.data() : memory_.data() + offsets_[window];
  parallel_for(tiles_of(values.rows), [&](std::size_t tile) {
    for (std::size_t r = tile * kTileRows; r < std::min(values.rows, (tile + 1) * kTileRows); ++r) {
      const std::byte* row = from + r * row_bytes;
      if (element_ == 2) {
        bf16_to_float(reinterpret_cast<const Bf16*>(row), values.row(r), values.cols);
      } else {
        std::memcpy(values.row(r), row, row_bytes);
      }
    }
  });
}

}  // namespace neap
