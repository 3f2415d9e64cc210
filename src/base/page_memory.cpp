#include "base/page_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <new>

namespace neap {
namespace {

constexpr std::size_t kLargePage = std::size_t{2} << 20, kLeastMapping = std::size_t{32} << 20;
constexpr std::size_t kCacheLine = 64;

// Where reading beyond a piece is to be found out, each has a mapping of its own, at its end.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kApart = true;
#elif defined(__has_feature)
constexpr bool kApart = __has_feature(address_sanitizer);
#else
constexpr bool kApart = false;
#endif

std::size_t round_up(std::size_t bytes, std::size_t step) {
  return (bytes + step - 1) / step * step;
}

}  // namespace

struct PageMemory::Mapping {
  explicit Mapping(std::size_t least)
      : bytes(round_up(std::max(least, kLeastMapping), kLargePage) + kLargePage) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    madvise(memory, bytes, MADV_HUGEPAGE);  // no more than advice
    start = static_cast<std::byte*>(memory);
    const auto address = reinterpret_cast<std::uintptr_t>(memory);
    used = round_up(address, kLargePage) - address;
  }
  ~Mapping() { munmap(start, bytes); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::byte* start = nullptr;
  std::size_t bytes, used = 0;
};

PageMemory::PageMemory(std::size_t bytes) {
  static std::mutex mutex;
  static std::shared_ptr<Mapping> latest;
  const std::scoped_lock lock(mutex);
  const std::size_t needed = round_up(bytes, kCacheLine);
  if (kApart || !latest || latest->bytes - latest->used < needed)
    latest = std::make_shared<Mapping>(needed);
  if (kApart) latest->used = latest->bytes - needed;
  mapping_ = latest;
  data_ = mapping_->start + mapping_->used;
  mapping_->used += needed;
}

}  // namespace neap
