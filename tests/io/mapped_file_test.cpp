#include "io/mapped_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <utility>

#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace neap {
namespace {

std::string text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

TEST(MappedFileTest, ShowsTheFilesBytes) {
  const test::TempFolder folder;
  const MappedFile file(folder.write("a", "hello"));
  EXPECT_EQ(text_of(file), "hello");
  EXPECT_EQ(file.path(), folder / "a");
}

TEST(MappedFileTest, AnEmptyFileHasNoBytes) {
  const test::TempFolder folder;
  const MappedFile file(folder.write("a", ""));
  EXPECT_TRUE(file.bytes().empty());
  file.release(0, 0);
}

TEST(MappedFileTest, BytesSurviveReleaseAndMove) {
  const test::TempFolder folder;
  std::string contents(20000, 'x');
  contents[9999] = 'y';
  MappedFile first(folder.write("a", contents));
  const std::byte* address = first.bytes().data();
  const MappedFile file = std::move(first);
  EXPECT_EQ(file.bytes().data(), address);
  file.will_need(5000, 7000);
  file.release(5000, 7000);
  EXPECT_EQ(text_of(file), contents);
}

TEST(MappedFileTest, NamesTheFileAndTheSystemsReason) {
  const test::TempFolder folder;
  EXPECT_ERROR(MappedFile(folder / "none"), ErrorCode::io,
               folder / "none: cannot open: No such file");
}

TEST(MappedFileTest, RefusesFoldersAndPipes) {
  const test::TempFolder folder;
  EXPECT_ERROR(MappedFile(folder.path()), ErrorCode::io, "is a directory");
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_ERROR(MappedFile(folder / "pipe"), ErrorCode::io, "not a regular file");
}

}  // namespace
}  // namespace neap
