// Output that is whole or absent: a directory or a small file appears under its name when it is
// complete and on the disk, and not before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace neap {

// Creates or replaces a small file: a temporary sibling is written, synced and renamed. Throws
// Error(io).
void write_file_atomically(const std::string& path, std::string_view contents);

// What an output is called by: a directory, or one file with companions beside it, whose names begin with its own
// ("x.gguf", "x.gguf.md").
enum class OutputKind { directory, file };

// A directory in the making. Everything goes into folder(), a sibling NAME.partial-XXXXXXXX on the
// same file system; commit() renames it. Whoever is killed in between leaves that sibling behind;
// the next run for the same name removes it (it is no longer locked).
class OutputDirectory {
 public:
  // `path` (nor, of a file, any companion of it) must not exist, unless `overwrite`: then it may be an empty directory or
  // one that holds a config.json or a .gguf, or a GGUF, and stays as it is until commit(). Missing parents are created.
  // Throws Error(argument | io).
  OutputDirectory(const std::string& path, bool overwrite, OutputKind kind = OutputKind::directory);
  // Without commit(), removes the folder and the parents that were created for it.
  ~OutputDirectory();
  OutputDirectory(const OutputDirectory&) = delete;
  OutputDirectory& operator=(const OutputDirectory&) = delete;

  const std::string& path() const { return path_; }
  const std::string& folder() const { return folder_; }

  // A small file in the folder, written and synced.
  void write(const std::string& name, std::string_view contents) const;

  // The last act: syncs the folder and renames it to path(), exchanging it with what stood there,
  // which is removed. Of a file: moves all files of the folder to where path() is, that one last. Throws Error(io), or Error(argument) if something has appeared at path()
  // meanwhile.
  void commit();

 private:
  void create_folder();
  void commit_folder();
  void commit_files();

  OutputKind kind_;
  std::string path_, folder_;
  std::string created_;  // the topmost parent that was made here, or empty
  bool overwrite_;
  int lock_ = -1;  // the folder, locked while in use
  bool committed_ = false;
};

// A new file of known size, its space reserved at once so that a full disk is found now and not
// after hours. Writes may come in any order and from several threads.
class OutputFile {
 public:
  // Throws Error(io) if `path` exists, or if there is no room; then it is not there.
  OutputFile(std::string path, std::uint64_t size);
  ~OutputFile();
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;

  const std::string& path() const { return path_; }
  // Throws Error(io). [offset, offset + bytes.size()) lies in the file (NEAP_CHECK).
  void write(std::uint64_t offset, std::span<const std::byte> bytes);
  // Waits until all of it is on the disk, drops it from the page cache, so that whoever reads it
  // back reads the disk, and closes. Throws Error(io).
  void close();

 private:
  std::string path_;
  std::uint64_t size_;
  int fd_ = -1;
};

}  // namespace neap
