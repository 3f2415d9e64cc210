#include "io/writer.h"

#include <fcntl.h>
#include <stdio.h>  // renameat2
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <system_error>
#include <utility>
#include <vector>

#include "neap/check.h"
#include "neap/error.h"

namespace neap {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const std::string& what, const std::string& path, int error) {
  throw Error(ErrorCode::io, what + ": " + std::generic_category().message(error), {.file = path});
}

std::string random_suffix() {
  std::random_device device;
  std::array<char, 9> text{};
  std::snprintf(text.data(), text.size(), "%08x", static_cast<unsigned>(device()));
  return std::string(".partial-") + text.data();
}

void write_all(int fd, const std::string& path, std::span<const std::byte> bytes,
               std::uint64_t offset) {
  while (!bytes.empty()) {
    const ssize_t n = pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("cannot write", path, errno);
    if (n == 0) fail("cannot write", path, ENOSPC);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
}

void sync_folder(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) fail("cannot open", path, errno);
  const int failed = fsync(fd) != 0 ? errno : 0;
  ::close(fd);
  if (failed != 0) fail("cannot sync", path, failed);
}

std::string parent_of(const std::string& path) {
  const std::string parent = fs::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

void remove_quietly(const std::string& path) {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

// `path` without trailing slashes and, where it exists, without symbolic links, so that the rename
// replaces what the name means.
std::string settled(const std::string& path) {
  std::error_code error;
  fs::path result = fs::weakly_canonical(fs::absolute(path), error);
  if (error) fail("cannot resolve", path, error.value());
  if (!result.has_filename()) result = result.parent_path();
  return result.string();
}

// Creates the missing ones and returns the topmost of them, or nothing.
std::string create_parents(const std::string& path) {
  std::string created;
  for (fs::path p = fs::path(path).parent_path(); !p.empty() && !fs::exists(p);
       p = p.parent_path()) {
    created = p.string();
  }
  std::error_code error;
  fs::create_directories(fs::path(path).parent_path(), error);
  if (error) fail("cannot create the folder", parent_of(path), error.value());
  return created;
}

// A folder that its maker no longer locks was left by a run that was killed.
void remove_stale(const std::string& path) {
  const std::string prefix = fs::path(path).filename().string() + ".partial-";
  std::error_code error;
  for (fs::directory_iterator it(parent_of(path), error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!name.starts_with(prefix) || name.size() != prefix.size() + 8) continue;
    const int fd = open(it->path().c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) continue;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) remove_quietly(it->path().string());
    ::close(fd);
  }
}

bool holds_gguf(const std::string& folder) {
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() == ".gguf") return true;
  }
  return false;
}

bool is_gguf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::array<char, 4> magic{};
  return file.read(magic.data(), magic.size()) && std::string_view(magic.data(), magic.size()) == "GGUF";
}

// A file's companions, those of runs that are under way apart.
std::vector<std::string> companions_of(const std::string& path) {
  const std::string prefix = fs::path(path).filename().string() + ".";
  std::vector<std::string> found;
  std::error_code error;
  for (fs::directory_iterator it(parent_of(path), error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with(prefix) && !name.starts_with(prefix + "partial-")) found.push_back(it->path().string());
  }
  return found;
}

Error exists_already(const std::string& path) {
  return Error(ErrorCode::argument, "exists already", {.file = path, .expected = "another name, or --overwrite"});
}

void check_target_file(const std::string& path, bool overwrite) {
  std::vector<std::string> there = companions_of(path);
  if (fs::exists(fs::symlink_status(path))) there.push_back(path);
  if (there.empty()) return;
  if (!overwrite) throw exists_already(there.back());
  for (const std::string& name : there) {
    if (fs::is_regular_file(fs::symlink_status(name)) && (name != path || is_gguf(path))) continue;
    throw Error(ErrorCode::argument, "is not what such an output replaces", {.file = name});
  }
}

// A model's folder, or an empty one, and nothing in it that no model has; not the one that somebody works in.
bool is_replaceable(const std::string& folder) {
  static const std::set<std::string> kEndings = {".json", ".safetensors", ".gguf", ".md", ".jinja", ".model"};
  static const std::set<std::string> kTexts = {"merges.txt", "vocab.txt"};
  try {
    if (fs::equivalent(folder, fs::current_path())) return false;
    for (const auto& entry : fs::directory_iterator(folder)) {
      const fs::path& path = entry.path();
      if (!fs::is_regular_file(entry.symlink_status())) return false;
      if (!kEndings.contains(path.extension().string()) && !kTexts.contains(path.filename().string())) return false;
    }
    return fs::is_empty(folder) || fs::exists(folder + "/config.json") || holds_gguf(folder);
  } catch (const fs::filesystem_error&) {
    return false;  // what cannot be looked at
  }
}

// Replacing is for models; anything else at that place is more likely a slip of the pen.
void check_target(const std::string& path, bool overwrite) {
  struct stat status;
  if (lstat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return;
    fail("cannot look at", path, errno);
  }
  if (!overwrite) throw exists_already(path);
  if (S_ISDIR(status.st_mode) && is_replaceable(path)) return;
  throw Error(ErrorCode::argument, "is not a model's directory, and will not be replaced",
              {.file = path, .expected = "a model and nothing besides"});
}

// Both return an errno, or 0. Not every file system knows the flags of renameat2.
int rename_new(const std::string& from, const std::string& to) {
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return 0;
  if (errno != EINVAL && errno != ENOSYS) return errno;
  return rename(from.c_str(), to.c_str()) == 0 ? 0 : errno;
}

int swap_names(const std::string& one, const std::string& other) {
  if (renameat2(AT_FDCWD, one.c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE) == 0) return 0;
  if (errno != EINVAL && errno != ENOSYS) return errno;
  const std::string aside = other + random_suffix();
  if (rename(other.c_str(), aside.c_str()) != 0) return errno;
  if (rename(one.c_str(), other.c_str()) != 0) {
    const int error = errno;
    (void)rename(aside.c_str(), other.c_str());
    return error;
  }
  return rename(aside.c_str(), one.c_str()) == 0 ? 0 : errno;
}

// Parents of `path` up to `topmost`, unless somebody else has put something there.
void remove_empty_parents(const std::string& path, const std::string& topmost) {
  for (fs::path p = fs::path(path).parent_path(); !topmost.empty(); p = p.parent_path()) {
    if (rmdir(p.c_str()) != 0 || p.string() == topmost) break;
  }
}

}  // namespace

void write_file_atomically(const std::string& path, std::string_view contents) {
  const std::string temporary = path + random_suffix();
  try {
    OutputFile file(temporary, contents.size());
    file.write(0, std::as_bytes(std::span(contents)));
    file.close();
    if (rename(temporary.c_str(), path.c_str()) != 0) fail("cannot create", path, errno);
  } catch (...) {
    unlink(temporary.c_str());
    throw;
  }
  sync_folder(parent_of(path));
}

OutputDirectory::OutputDirectory(const std::string& path, bool overwrite, OutputKind kind)
    : kind_(kind), path_(settled(path)), overwrite_(overwrite) {
  kind_ == OutputKind::file ? check_target_file(path_, overwrite_) : check_target(path_, overwrite_);
  created_ = create_parents(path_);
  remove_stale(path_);
  try {
    create_folder();
  } catch (...) {
    remove_empty_parents(path_, created_);
    throw;
  }
}

void OutputDirectory::create_folder() {
  for (int attempt = 0; attempt < 100; ++attempt) {
    folder_ = path_ + random_suffix();
    if (mkdir(folder_.c_str(), 0777) != 0) {
      if (errno == EEXIST) continue;
      fail("cannot create the folder", folder_, errno);
    }
    lock_ = open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat mine, named;
    // Another run may have taken the new folder for a stale one before it was locked. (Where a file
    // system has no locks, nobody can think so: remove_stale needs one to remove anything.)
    if (lock_ >= 0) (void)flock(lock_, LOCK_EX | LOCK_NB);
    if (lock_ >= 0 && fstat(lock_, &mine) == 0 && stat(folder_.c_str(), &named) == 0 &&
        mine.st_ino == named.st_ino) {
      return;
    }
    if (lock_ >= 0) ::close(std::exchange(lock_, -1));
  }
  throw Error(ErrorCode::io, "cannot create a temporary folder", {.file = folder_});
}

OutputDirectory::~OutputDirectory() {
  if (!committed_) {
    remove_quietly(folder_);
    remove_empty_parents(path_, created_);
  }
  if (lock_ >= 0) ::close(lock_);
}

void OutputDirectory::write(const std::string& name, std::string_view contents) const {
  OutputFile file(folder_ + "/" + name, contents.size());
  file.write(0, std::as_bytes(std::span(contents)));
  file.close();
}

void OutputDirectory::commit() {
  NEAP_CHECK(!committed_);
  sync_folder(folder_);
  kind_ == OutputKind::file ? commit_files() : commit_folder();
}

void OutputDirectory::commit_files() {
  check_target_file(path_, overwrite_);
  const std::string main = fs::path(path_).filename().string(), parent = parent_of(path_);
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder_)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end(), [&](const auto& a, const auto& b) { return std::pair(a == main, a) < std::pair(b == main, b); });
  NEAP_CHECK(!names.empty() && names.back() == main);
  struct Move {
    std::string from, to;
    bool swapped;  // what stood at `to` is at `from`
  };
  std::vector<Move> moved;
  for (const std::string& name : names) {
    NEAP_CHECK(name.starts_with(main));
    const std::string from = folder_ + "/" + name, to = parent + "/" + name;
    const bool replaces = overwrite_ && fs::exists(fs::symlink_status(to));
    const int error = replaces ? swap_names(from, to) : rename_new(from, to);
    if (error == 0) {
      moved.push_back({from, to, replaces});
      continue;
    }
    for (const Move& move : moved) move.swapped ? (void)swap_names(move.from, move.to) : remove_quietly(move.to);
    if (error == EEXIST) throw exists_already(to);
    fail("cannot create", to, error);
  }
  committed_ = true;
  remove_quietly(folder_);
  sync_folder(parent);
}

void OutputDirectory::commit_folder() {
  check_target(path_, overwrite_);
  const bool replaces = fs::exists(path_);
  const int error = replaces ? swap_names(folder_, path_) : rename_new(folder_, path_);
  if (error == EEXIST) throw exists_already(path_);
  if (error != 0) fail("cannot create", path_, error);
  committed_ = true;
  sync_folder(parent_of(path_));
  if (replaces) remove_quietly(folder_);  // what stood at path_
}

OutputFile::OutputFile(std::string path, std::uint64_t size) : path_(std::move(path)), size_(size) {
  fd_ = open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd_ < 0) fail("cannot create", path_, errno);
  if (size_ == 0) return;
  const int error = posix_fallocate(fd_, 0, static_cast<off_t>(size_));
  if (error != 0) {
    ::close(std::exchange(fd_, -1));
    unlink(path_.c_str());
    fail("cannot reserve " + std::to_string(size_) + " bytes", path_, error);
  }
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)), size_(other.size_), fd_(std::exchange(other.fd_, -1)) {}

OutputFile::~OutputFile() {
  if (fd_ >= 0) ::close(fd_);
}

void OutputFile::write(std::uint64_t offset, std::span<const std::byte> bytes) {
  NEAP_CHECK(fd_ >= 0 && offset <= size_ && bytes.size() <= size_ - offset);
  write_all(fd_, path_, bytes, offset);
}

void OutputFile::close() {
  NEAP_CHECK(fd_ >= 0);
  const int failed = fsync(fd_) != 0 ? errno : 0;
  (void)posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED);
  const int unclosed = ::close(std::exchange(fd_, -1)) != 0 ? errno : 0;
  if (failed != 0 || unclosed != 0) fail("cannot sync", path_, failed != 0 ? failed : unclosed);
}

}  // namespace neap
