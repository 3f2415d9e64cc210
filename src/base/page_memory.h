// Memory for weights that are read once a pass, from end to end: in large pages where the system
// has them. In small ones a core's reading stops at every page and looks up where the next one
// lies, which costs up to a third of its speed.
#pragma once

#include <cstddef>
#include <memory>

namespace neap {

class PageMemory {
 public:
  // Zeros, aligned to a cache line. Pieces share mappings, each of which lives as long as any piece
  // of it; the latest, of 32 MB, stays for the pieces to come. Throws std::bad_alloc. Thread-safe.
  explicit PageMemory(std::size_t bytes);

  std::byte* data() const { return data_; }

 private:
  struct Mapping;
  std::shared_ptr<Mapping> mapping_;
  std::byte* data_ = nullptr;
};

}  // namespace neap
