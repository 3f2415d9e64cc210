// Runs a fuzz target's entry point over files, once each, with every truncation of the small ones:
//   replay_NAME FILE_OR_FOLDER...
// Exit status 0 unless it dies on the way; 2 without a single file.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

namespace fs = std::filesystem;

constexpr std::size_t kTruncateBelow = 4096;  // bytes; each prefix of such a file is an input too

std::vector<fs::path> files_under(const fs::path& path) {
  if (!fs::is_directory(path)) return {path};
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(path)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

// A copy of exactly `size` bytes, so that the address sanitizer sees a read past the end.
void run(const std::vector<char>& bytes, std::size_t size) {
  const std::vector<std::uint8_t> copy(bytes.begin(),
                                       bytes.begin() + static_cast<std::ptrdiff_t>(size));
  LLVMFuzzerTestOneInput(copy.data(), copy.size());
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t count = 0;
  for (int i = 1; i < argc; ++i) {
    for (const fs::path& file : files_under(argv[i])) {
      std::ifstream stream(file, std::ios::binary);
      const std::vector<char> bytes{std::istreambuf_iterator<char>(stream), {}};
      const std::size_t shortest = bytes.size() < kTruncateBelow ? 0 : bytes.size();
      for (std::size_t size = shortest; size <= bytes.size(); ++size) run(bytes, size);
      ++count;
    }
  }
  std::printf("%zu files\n", count);
  return count > 0 ? 0 : 2;
}
