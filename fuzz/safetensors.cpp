// A safetensors header, and an index of shards. Whatever is accepted keeps its promises.
#include "io/safetensors.h"

#include <cstdint>
#include <span>
#include <string_view>

#include "io/tensor_bytes.h"
#include "neap/check.h"
#include "neap/error.h"

namespace {

void read_file(std::span<const std::byte> bytes) {
  const neap::SafetensorsHeader header = neap::parse_safetensors(bytes, "fuzz");
  std::uint64_t end = header.data_start;
  for (const neap::TensorInfo& tensor : header.tensors) {
    NEAP_CHECK(tensor.offset == end);
    NEAP_CHECK(neap::checked_bytes(tensor.type, tensor.shape) == tensor.bytes);
    end += tensor.bytes;
  }
  NEAP_CHECK(end == bytes.size());
}

void read_index(std::string_view text) {
  for (const auto& [file, tensors] : neap::parse_safetensors_index(text, "fuzz")) {
    NEAP_CHECK(!file.empty() && file.find('/') == file.npos && !tensors.empty());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    read_file(std::as_bytes(std::span(data, size)));
  } catch (const neap::Error&) {
  }
  try {
    read_index({reinterpret_cast<const char*>(data), size});
  } catch (const neap::Error&) {
  }
  return 0;
}
