#include "export/source_identity.h"

#include <filesystem>
#include <map>
#include <optional>

#include "io/gguf.h"
#include "io/hub_cache.h"
#include "io/json.h"
#include "io/names.h"
#include "neap/error.h"

namespace neap {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxCardBytes = std::uint64_t{4} << 20;
constexpr std::string_view kFence = "---";

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r");
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

std::string unquoted(std::string_view text) {
  text = trimmed(text);
  const bool quoted = text.size() >= 2 && (text.front() == '"' || text.front() == '\'') && text.back() == text.front();
  return printable(quoted ? text.substr(1, text.size() - 2) : text);
}

// Plain settings and flat lists of a front matter: all that cards state here. Anything nested is passed over.
std::map<std::string, std::vector<std::string>> front_matter(std::string_view text) {
  std::map<std::string, std::vector<std::string>> settings;
  std::string key;
  bool inside = false;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text = end == text.npos ? std::string_view{} : text.substr(end + 1);
    if (trimmed(line) == kFence) {
      if (inside) return settings;
      inside = true;
      continue;
    }
    if (!inside) return {};
    const std::size_t colon = line.find(':');
    if (const std::string_view item = trimmed(line); item.starts_with("- ")) {
      if (!key.empty()) settings[key].push_back(unquoted(item.substr(2)));
    } else if (colon != line.npos && line[0] != ' ' && line[0] != '#') {
      key = line.substr(0, colon);
      if (const std::string value = unquoted(line.substr(colon + 1)); !value.empty()) settings[key] = {value};
    }
  }
  return {};
}

// A folder of the hub cache: .../models--ORG--NAME/snapshots/COMMIT
void read_hub_folder(const fs::path& folder, SourceIdentity& who) {
  static constexpr std::string_view kPrefix = "models--";
  const std::string repository = folder.parent_path().parent_path().filename().string();
  if (folder.parent_path().filename() != "snapshots" || !repository.starts_with(kPrefix)) return;
  const std::size_t gap = repository.find("--", kPrefix.size());
  if (gap == repository.npos) return;
  who.name = repository.substr(gap + 2);
  who.repository = repository.substr(kPrefix.size(), gap - kPrefix.size()) + "/" + who.name;
  who.revision = folder.filename().string();
}

std::string card_beside(const std::string& folder) {
  try {
    const std::string path = folder + "/README.md";
    return fs::exists(path) ? read_text_file(path, kMaxCardBytes) : std::string{};
  } catch (const Error&) {
    return {};
  }
}

SourceIdentity identify_folder(const Checkpoint& checkpoint) {
  SourceIdentity who = identity_in_card(card_beside(checkpoint.folder()));
  std::error_code error;
  const fs::path folder = fs::weakly_canonical(fs::absolute(checkpoint.folder()), error);
  who.name = printable((folder.has_filename() ? folder : folder.parent_path()).filename().string());
  read_hub_folder(folder, who);
  return who;
}

// "https://huggingface.co/ORG/NAME" or "ORG/NAME"
std::string repository_in(std::string text) {
  for (const std::string_view front : {"https://huggingface.co/", "https://hf.co/"}) {
    if (text.starts_with(front)) text.erase(0, front.size());
  }
  const auto name = parse_hub_name(text);
  return name ? name->repository : std::string{};
}

SourceIdentity identify_gguf(const GgufFile& gguf) {
  const auto said = [&](const char* key) {
    const GgufValue* value = gguf.find(key);
    const auto* text = value ? std::get_if<std::string>(value) : nullptr;
    return text ? printable(*text) : std::string{};
  };
  SourceIdentity who{.name = said("general.name"),
                     .repository = repository_in(said("general.source.huggingface.repository")),
                     .revision = {},
                     .license = said("general.license"),
                     .license_name = said("general.license.name"),
                     .license_link = said("general.license.link"),
                     .languages = {}};
  if (who.repository.empty()) who.repository = repository_in(said("general.repo_url"));
  if (who.name.empty()) who.name = printable(fs::path(gguf.path()).stem().string());
  if (const GgufValue* languages = gguf.find("general.languages")) {
    if (const auto* list = std::get_if<std::vector<std::string>>(languages)) {
      for (const std::string& language : *list) who.languages.push_back(printable(language));
    }
  }
  return who;
}

}  // namespace

SourceIdentity identity_in_card(std::string_view readme) {
  auto settings = front_matter(readme);
  const auto one = [&](const char* key) { return settings[key].size() == 1 ? settings[key][0] : std::string{}; };
  SourceIdentity who{.name = {}, .repository = {}, .revision = {}, .license = one("license"), .license_name = one("license_name"),
                     .license_link = one("license_link"), .languages = settings["language"]};
  if (one("base_model_relation") == "quantized") who.repository = repository_in(one("base_model"));
  return who;
}

SourceIdentity identify(const Checkpoint& checkpoint) {
  return checkpoint.gguf() ? identify_gguf(*checkpoint.gguf()) : identify_folder(checkpoint);
}

}  // namespace neap
