#include "io/hub_cache.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <utility>
#include <vector>

#include "neap/checkpoint.h"
#include "support/expect_error.h"
#include "support/file_bytes.h"
#include "support/temp_folder.h"

namespace neap {
namespace {

// Sets an environment variable (or unsets it) for its lifetime.
class Variable {
 public:
  Variable(const char* name, std::optional<std::string> value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    set(value);
  }
  ~Variable() { set(before_); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  void set(const std::optional<std::string>& value) {
    if (value)
      ::setenv(name_, value->c_str(), 1);
    else
      ::unsetenv(name_);
  }
  const char* name_;
  std::optional<std::string> before_;
};

TEST(HubNameTest, SplitsRepositoryAndRevision) {
  const auto plain = parse_hub_name("org/na-me_1.5");
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->repository, "org/na-me_1.5");
  EXPECT_EQ(plain->revision, "main");
  EXPECT_EQ(parse_hub_name("org/name@v2")->revision, "v2");
  EXPECT_EQ(parse_hub_name("org/name@refs/pr/1")->revision, "refs/pr/1");
}

TEST(HubNameTest, TakesPathsForWhatTheyAre) {
  for (const char* text : {"", "name", "/a/b", "./a", "../a", "a/..", "a/b/c", "a/", "a b/c",
                           "a/b@", "a/b@../x", "a/b@x//y", "a/m.gguf", "a/m.safetensors", "~/a"}) {
    EXPECT_FALSE(parse_hub_name(text)) << text;
  }
}

TEST(HubCacheTest, FolderFollowsTheEnvironmentAsHuggingFaceDoes) {
  const Variable home("HOME", "/h");
  const Variable cache("HF_HUB_CACHE", {}), hf("HF_HOME", {}), xdg("XDG_CACHE_HOME", {});
  EXPECT_EQ(hub_cache_folder(), "/h/.cache/huggingface/hub");
  const Variable xdg_set("XDG_CACHE_HOME", "/x");
  EXPECT_EQ(hub_cache_folder(), "/x/huggingface/hub");
  const Variable hf_set("HF_HOME", "/f");
  EXPECT_EQ(hub_cache_folder(), "/f/hub");
  const Variable cache_set("HF_HUB_CACHE", "/c");
  EXPECT_EQ(hub_cache_folder(), "/c");
}

class HubCacheLookupTest : public testing::Test {
 protected:
  HubCacheLookupTest() {
    cache_.write("models--org--name/refs/main", "abc123\n");
    cache_.write("models--org--name/refs/refs/pr/1", "def456");
    cache_.write("models--org--name/refs/gone", "999999");
    cache_.write("models--org--name/refs/evil", "../../..");
    cache_.write("models--org--name/snapshots/abc123/config.json", "{}");
    cache_.write("models--org--name/snapshots/def456/config.json", "{}");
  }
  std::string find(const std::string& revision) const {
    return find_in_hub_cache({"org/name", revision}, cache_.path());
  }
  const test::TempFolder cache_;
};

TEST_F(HubCacheLookupTest, ResolvesBranchesPullRequestsAndCommits) {
  EXPECT_EQ(find("main"), cache_ / "models--org--name/snapshots/abc123");
  EXPECT_EQ(find("refs/pr/1"), cache_ / "models--org--name/snapshots/def456");
  EXPECT_EQ(find("def456"), cache_ / "models--org--name/snapshots/def456");
}

TEST_F(HubCacheLookupTest, SaysWhereItLookedAndThatNothingIsDownloaded) {
  EXPECT_ERROR(find_in_hub_cache({"org/other", "main"}, cache_.path()), ErrorCode::io,
               "org/other@main: neither a file or folder here nor in the hub cache (looked for " +
                   (cache_ / "models--org--other; nothing is downloaded)"));
  EXPECT_ERROR(find("v2"), ErrorCode::io, "no such revision, only abc123, def456 (looked for ");
  EXPECT_ERROR(find("gone"), ErrorCode::io, "does not hold it (looked for ");
}

TEST_F(HubCacheLookupTest, RefusesARefThatClimbsOutOfTheCache) {
  EXPECT_ERROR(find("evil"), ErrorCode::format, "does not hold a commit");
}

TEST_F(HubCacheLookupTest, CheckpointsOpenByRepositoryName) {
  const std::string file = "models--org--name/snapshots/abc123/model.safetensors";
  cache_.write("models--org--name/blobs/1", test::safetensors_bytes("{}", 0));
  std::filesystem::create_symlink("../../blobs/1", cache_ / file);
  const Variable cache("HF_HUB_CACHE", cache_.path());
  EXPECT_EQ(Checkpoint::open("org/name").path(), cache_ / "models--org--name/snapshots/abc123");
  EXPECT_ERROR(Checkpoint::open("org/none"), ErrorCode::io, "nothing is downloaded");
}

}  // namespace
}  // namespace neap
