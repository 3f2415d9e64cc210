// Memory for one tile's operands: aligned, not initialised, kept between calls. Meant to be
// thread_local in the function that uses it, where asking the system anew for every tile (and
// touching fresh pages) would cost more than the work done in it.
#pragma once

#include <cstddef>
#include <new>
#include <utility>

namespace neap {

class Buffer {
 public:
  Buffer() = default;
  ~Buffer() { release(); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

  // At least `bytes` bytes, aligned to a cache line. What they held before is lost when they grow.
  std::byte* bytes(std::size_t bytes) {
    if (bytes > size_) {
      release();
      data_ = static_cast<std::byte*>(::operator new(bytes, kAlignment));
      size_ = bytes;
    }
    return data_;
  }
  float* floats(std::size_t count) {
    return reinterpret_cast<float*>(bytes(count * sizeof(float)));
  }
  const std::byte* data() const { return data_; }

 private:
  static constexpr std::align_val_t kAlignment{64};

  void release() {
    if (data_) ::operator delete(data_, kAlignment);
    data_ = nullptr;
    size_ = 0;
  }

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace neap
