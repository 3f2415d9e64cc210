// A file mapped read-only. Its bytes come from the page cache when touched; a file that shrinks
// while it is mapped makes such a touch fatal (SIGBUS), as with any mapping.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace neap {

class MappedFile {
 public:
  // Throws Error(io) with the system's words if `path` is missing, unreadable or not a regular
  // file.
  explicit MappedFile(std::string path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;

  const std::string& path() const { return path_; }
  // All of the file; page-aligned, valid as long as this object (or the one it was moved to) lives.
  std::span<const std::byte> bytes() const { return {data_, size_}; }

  // Hints about [offset, offset + length), which must lie in the file. They change speed and
  // resident memory, never what bytes() holds: read ahead now; drop the pages from this process.
  void will_need(std::uint64_t offset, std::uint64_t length) const;
  void release(std::uint64_t offset, std::uint64_t length) const;

 private:
  void advise(std::uint64_t offset, std::uint64_t length, int advice) const;

  std::string path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace neap
