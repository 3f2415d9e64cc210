#include "io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "neap/check.h"
#include "neap/error.h"

namespace neap {
namespace {

[[noreturn]] void fail(const std::string& path, const std::string& what) {
  const std::string reason = std::generic_category().message(errno);
  throw Error(ErrorCode::io, what + ": " + reason, {.file = path});
}

class Descriptor {
 public:
  // Non-blocking, so that a named pipe is refused below instead of waited for.
  explicit Descriptor(const std::string& path)
      : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    if (fd_ < 0) fail(path, "cannot open");
  }
  ~Descriptor() { ::close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

MappedFile::MappedFile(std::string path) : path_(std::move(path)) {
  const Descriptor file(path_);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) fail(path_, "cannot stat");
  if (!S_ISREG(status.st_mode)) {
    throw Error(ErrorCode::io, S_ISDIR(status.st_mode) ? "is a directory" : "is not a regular file",
                {.file = path_});
  }
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ == 0) return;  // mmap refuses an empty range
  void* address = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.get(), 0);
  if (address == MAP_FAILED) fail(path_, "cannot map");
  data_ = static_cast<const std::byte*>(address);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::will_need(std::uint64_t offset, std::uint64_t length) const {
  advise(offset, length, MADV_WILLNEED);
}

void MappedFile::release(std::uint64_t offset, std::uint64_t length) const {
  advise(offset, length, MADV_DONTNEED);
}

// Rounded outward to whole pages: a neighbour's page that is dropped is merely read again. The
// return value is ignored because these are hints.
void MappedFile::advise(std::uint64_t offset, std::uint64_t length, int advice) const {
  NEAP_CHECK(offset <= size_ && length <= size_ - offset);
  if (length == 0) return;
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const std::uint64_t begin = offset / page * page;
  (void)::madvise(const_cast<std::byte*>(data_) + begin, offset + length - begin, advice);
}

}  // namespace neap
