#include "io/writer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "neap/error.h"

namespace neap {
namespace {

namespace fs = std::filesystem;

class WriterTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "neap-writer-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
  }
  void TearDown() override { fs::remove_all(root_); }

  std::string at(const std::string& name) const { return (root_ / name).string(); }
  static std::string contents(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::set<std::string> names() const {
    std::set<std::string> result;
    for (const auto& entry : fs::directory_iterator(root_)) result.insert(entry.path().filename());
    return result;
  }
  template <class F>
  static ErrorCode code_of(F&& f) {
    try {
      f();
    } catch (const Error& error) {
      EXPECT_FALSE(error.context().file.empty());
      return error.code();
    }
    ADD_FAILURE() << "no error";
    return ErrorCode::data;
  }

  fs::path root_;
};

TEST_F(WriterTest, SmallFilesAreReplacedWholeAndLeaveNothingBeside) {
  write_file_atomically(at("a.json"), "one");
  write_file_atomically(at("a.json"), "two, longer");
  write_file_atomically(at("empty"), "");
  EXPECT_EQ(contents(at("a.json")), "two, longer");
  EXPECT_EQ(names(), (std::set<std::string>{"a.json", "empty"}));
  EXPECT_EQ(code_of([&] { write_file_atomically(at("no/such/folder"), "x"); }), ErrorCode::io);
  fs::create_directory(at("d"));
  EXPECT_EQ(code_of([&] { write_file_atomically(at("d"), "x"); }), ErrorCode::io);
  EXPECT_EQ(names(), (std::set<std::string>{"a.json", "d", "empty"}));
}

TEST_F(WriterTest, ADirectoryAppearsOnlyAtCommit) {
  OutputDirectory out(at("out/"), false);
  out.write("config.json", "{}");
  EXPECT_EQ(fs::path(out.folder()).parent_path(), root_);
  EXPECT_FALSE(fs::exists(at("out")));
  out.commit();
  EXPECT_EQ(contents(at("out/config.json")), "{}");
  EXPECT_EQ(names(), std::set<std::string>{"out"});
}

TEST_F(WriterTest, WithoutCommitNothingRemainsNotEvenTheParentsThatWereMade) {
  {
    OutputDirectory out(at("x/y/out"), false);
    out.write("f", "1");
    EXPECT_TRUE(fs::exists(at("x/y")));
  }
  EXPECT_EQ(names(), std::set<std::string>{});
}

TEST_F(WriterTest, WhatExistsIsRefusedUnlessOverwriteIsAskedAndItIsAModel) {
  fs::create_directory(at("letters"));
  std::ofstream(at("letters/dear")) << "x";
  EXPECT_EQ(code_of([&] { OutputDirectory(at("letters"), false); }), ErrorCode::argument);
  EXPECT_EQ(code_of([&] { OutputDirectory(at("letters"), true); }), ErrorCode::argument);
  EXPECT_EQ(code_of([&] { OutputDirectory(at("letters/dear"), true); }), ErrorCode::argument);
  EXPECT_EQ(code_of([&] { OutputDirectory(at("letters/dear/out"), false); }), ErrorCode::io);
  EXPECT_EQ(names(), std::set<std::string>{"letters"});
}

TEST_F(WriterTest, AnOldModelStaysUntilTheNewOneIsComplete) {
  fs::create_directory(at("m"));
  std::ofstream(at("m/config.json")) << "old";
  std::ofstream(at("m/more.json")) << "old";
  { OutputDirectory(at("m"), true).write("config.json", "abandoned"); }
  EXPECT_EQ(contents(at("m/config.json")), "old");
  OutputDirectory out(at("m"), true);
  out.write("config.json", "new");
  EXPECT_EQ(contents(at("m/config.json")), "old");
  out.commit();
  EXPECT_EQ(contents(at("m/config.json")), "new");
  EXPECT_FALSE(fs::exists(at("m/more.json")));
  EXPECT_EQ(names(), std::set<std::string>{"m"});
}

TEST_F(WriterTest, EveryFileThatAModelMayHaveCanBeReplaced) {
  fs::create_directory(at("m"));
  for (const char* name : {"config.json", "model.safetensors", "m.gguf", "README.md", "chat_template.jinja", "tokenizer.model", "merges.txt", "vocab.txt"}) {
    std::ofstream(at("m/" + std::string(name))) << "old";
  }
  OutputDirectory out(at("m"), true);
  out.write("config.json", "new");
  out.commit();
  EXPECT_FALSE(fs::exists(at("m/vocab.txt")));
}

TEST_F(WriterTest, AFolderWithAnythingBesidesAModelIsNotReplaced) {
  for (const char* other : {"notes.txt", "program", "model.py"}) {
    fs::create_directory(at("m"));
    std::ofstream(at("m/config.json")) << "{}";
    std::ofstream(at("m/" + std::string(other))) << "mine";
    EXPECT_EQ(code_of([&] { OutputDirectory(at("m"), true); }), ErrorCode::argument) << other;
    EXPECT_EQ(contents(at("m/" + std::string(other))), "mine");
    fs::remove_all(at("m"));
  }
  fs::create_directories(at("m/src"));
  std::ofstream(at("m/model.gguf")) << "GGUF";
  EXPECT_EQ(code_of([&] { OutputDirectory(at("m"), true); }), ErrorCode::argument);
  EXPECT_TRUE(fs::exists(at("m/src")));
}

TEST_F(WriterTest, WhatAppearsMeanwhileIsNotOverwritten) {
  {
    OutputDirectory out(at("m"), false);
    out.write("config.json", "mine");
    fs::create_directory(at("m"));
    EXPECT_EQ(code_of([&] { out.commit(); }), ErrorCode::argument);
  }
  EXPECT_EQ(names(), std::set<std::string>{"m"});
  EXPECT_TRUE(fs::is_empty(at("m")));
}

TEST_F(WriterTest, ALinkToAModelStaysALink) {
  fs::create_directory(at("m"));
  fs::create_directory_symlink(at("m"), at("link"));
  OutputDirectory out(at("link"), true);
  out.write("config.json", "new");
  out.commit();
  EXPECT_TRUE(fs::is_symlink(at("link")));
  EXPECT_EQ(contents(at("m/config.json")), "new");
}

TEST_F(WriterTest, AKilledRunsFolderIsRemovedByTheNextAndALiveOnesIsNot) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto* killed = new OutputDirectory(at("m"), false);
    killed->write("f", "1");
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_EQ(names().size(), 1u);
  const std::string stale = *names().begin();
  EXPECT_TRUE(stale.starts_with("m.partial-")) << stale;
  fs::create_directory(at("m.partial-of-mine"));
  fs::create_directory(at("mm.partial-12345678"));

  OutputDirectory first(at("m"), false);
  EXPECT_FALSE(names().contains(stale));
  EXPECT_TRUE(names().contains("m.partial-of-mine"));
  EXPECT_TRUE(names().contains("mm.partial-12345678"));
  OutputDirectory second(at("m"), false);
  EXPECT_TRUE(fs::exists(first.folder()));
  first.write("f", "1");
}

TEST_F(WriterTest, AFileHasItsSizeFromTheBeginningAndTakesBytesInAnyOrder) {
  OutputFile file(at("f"), 10);
  EXPECT_EQ(fs::file_size(at("f")), 10u);
  const std::string tail = "56789", head = "01234";
  file.write(5, std::as_bytes(std::span(tail)));
  file.write(0, std::as_bytes(std::span(head)));
  file.close();
  EXPECT_EQ(contents(at("f")), "0123456789");
  EXPECT_EQ(code_of([&] { OutputFile(at("f"), 1); }), ErrorCode::io);
}

TEST_F(WriterTest, NoRoomIsFoundBeforeAnythingIsWritten) {
  EXPECT_EQ(code_of([&] { OutputFile(at("f"), std::uint64_t{1} << 60); }), ErrorCode::io);
}

TEST_F(WriterTest, AFolderThatMayNotBeWrittenIsAnErrorOfTheSystem) {
  EXPECT_EQ(code_of([&] { OutputDirectory("/proc/neap", false); }), ErrorCode::io);
}

TEST_F(WriterTest, AFileThatCannotBeReservedIsNotThere) {
  EXPECT_EQ(code_of([&] { OutputFile(at("file"), std::uint64_t{1} << 62); }), ErrorCode::io);
  EXPECT_TRUE(names().empty());
}

}  // namespace
}  // namespace neap
