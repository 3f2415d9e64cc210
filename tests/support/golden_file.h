// A safetensors file of expected values, which is no model.
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "io/mapped_file.h"
#include "io/safetensors.h"
#include "neap/tokenizer.h"

namespace neap::test {

class GoldenFile {
 public:
  explicit GoldenFile(const std::string& path)
      : file_(path), header_(parse_safetensors(file_.bytes(), path)) {}

  template <class T>
  std::vector<T> values(const std::string& name) const {
    for (const TensorInfo& tensor : header_.tensors) {
      if (tensor.name != name) continue;
      std::vector<T> out(tensor.bytes / sizeof(T));
      std::memcpy(out.data(), file_.bytes().data() + tensor.offset, tensor.bytes);
      return out;
    }
    throw std::runtime_error("no tensor " + name);
  }
  std::vector<TokenId> tokens(const std::string& name) const {
    const auto wide = values<std::int64_t>(name);
    return {wide.begin(), wide.end()};
  }

 private:
  MappedFile file_;
  SafetensorsHeader header_;
};

}  // namespace neap::test
