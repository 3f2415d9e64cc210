#include "io/hub_cache.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <vector>

#include "io/json.h"
#include "io/names.h"
#include "neap/error.h"

namespace neap {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxRefBytes = 256;

// Letters, digits, '-', '_' and '.', as the hub allows; never "." or "..".
bool is_hub_word(std::string_view word) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  };
  return !word.empty() && word.find_first_not_of('.') != word.npos &&
         std::all_of(word.begin(), word.end(), allowed);
}

// Revisions may have slashes ("refs/pr/1") but no part that climbs.
bool is_revision(std::string_view text) {
  while (true) {
    const std::size_t slash = text.find('/');
    if (!is_hub_word(text.substr(0, slash))) return false;
    if (slash == text.npos) return true;
    text.remove_prefix(slash + 1);
  }
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string names_in(const fs::path& folder) {
  std::error_code ignored;
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    names.push_back(printable(entry.path().filename().string()));
  }
  std::sort(names.begin(), names.end());
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return list.empty() ? "nothing" : list;
}

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

}  // namespace

std::optional<HubName> parse_hub_name(std::string_view text) {
  HubName name{.repository = {}, .revision = "main"};
  if (const std::size_t at = text.find('@'); at != text.npos) {
    name.revision = text.substr(at + 1);
    if (!is_revision(name.revision)) return {};
    text = text.substr(0, at);
  }
  const std::size_t slash = text.find('/');
  if (slash == text.npos || !is_hub_word(text.substr(0, slash)) ||
      !is_hub_word(text.substr(slash + 1))) {
    return {};
  }
  if (text.ends_with(".gguf") || text.ends_with(".safetensors")) return {};
  name.repository = text;
  return name;
}

std::string hub_cache_folder() {
  if (const auto cache = environment("HF_HUB_CACHE"); !cache.empty()) return cache;
  if (const auto home = environment("HF_HOME"); !home.empty()) return home + "/hub";
  if (const auto cache = environment("XDG_CACHE_HOME"); !cache.empty())
    return cache + "/huggingface/hub";
  return environment("HOME") + "/.cache/huggingface/hub";
}

std::string find_in_hub_cache(const HubName& name, const std::string& cache_folder) {
  std::string folder = "models--" + name.repository;
  folder.replace(folder.find('/'), 1, "--");
  const fs::path repository = fs::path(cache_folder) / folder;
  const std::string shown = name.repository + "@" + name.revision;
  const auto missing = [&](const std::string& what, const fs::path& where) {
    return Error(ErrorCode::io,
                 what + " (looked for " + where.string() + "; nothing is downloaded)",
                 {.file = shown});
  };
  if (!is_folder(repository)) {
    throw missing("neither a file or folder here nor in the hub cache", repository);
  }
  const fs::path snapshots = repository / "snapshots";
  if (const fs::path direct = snapshots / name.revision; is_folder(direct)) return direct.string();

  const fs::path ref = repository / "refs" / name.revision;
  std::error_code ignored;
  if (!fs::is_regular_file(ref, ignored)) {
    throw missing("the hub cache has no such revision, only " + names_in(snapshots), ref);
  }
  std::string commit = read_text_file(ref.string(), kMaxRefBytes);
  commit.erase(
      std::find_if(commit.begin(), commit.end(), [](char c) { return c == '\n' || c == '\r'; }),
      commit.end());
  if (!is_hub_word(commit)) {
    throw Error(ErrorCode::format, "does not hold a commit",
                {.file = ref.string(), .found = printable(commit)});
  }
  const fs::path snapshot = snapshots / commit;
  if (!is_folder(snapshot)) {
    throw missing("the hub cache knows this revision but does not hold it", snapshot);
  }
  return snapshot.string();
}

}  // namespace neap
