// A GGUF file: its header, every getter over its metadata, and the floats of every tensor.
#include "io/gguf.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/dequantize.h"
#include "io/tensor_bytes.h"
#include "neap/check.h"
#include "neap/error.h"

namespace {

template <class Getter>
void ignoring_errors(const Getter& get) {
  try {
    get();
  } catch (const neap::Error&) {
  }
}

void read_metadata(const neap::GgufFile& file) {
  for (const auto& [key, value] : file.metadata()) {
    NEAP_CHECK(file.find(key) == &value);
    NEAP_CHECK(!neap::describe(value).empty());
    ignoring_errors([&, &k = key] { file.integer(k); });
    ignoring_errors([&, &k = key] { file.number(k); });
    ignoring_errors([&, &k = key] { file.boolean(k); });
    ignoring_errors([&, &k = key] { file.string(k); });
    ignoring_errors([&, &k = key] { file.integers(k); });
    ignoring_errors([&, &k = key] { file.floats(k); });
    ignoring_errors([&, &k = key] { file.strings(k); });
  }
  ignoring_errors([&] {
    const neap::GgufSplit split = neap::split_of(file);
    NEAP_CHECK(split.number >= 0 && split.number < split.count);
    neap::split_path("x-00001-of-00002.gguf", split, 1);
  });
}

void read_tensors(const neap::GgufFile& file, std::span<const std::byte> bytes) {
  std::uint64_t end = 0;
  for (const neap::TensorInfo& tensor : file.tensors()) {
    NEAP_CHECK(tensor.offset >= end && tensor.offset % file.alignment() == 0);
    NEAP_CHECK(neap::checked_bytes(tensor.type, tensor.shape) == tensor.bytes);
    NEAP_CHECK(tensor.offset <= bytes.size() && tensor.bytes <= bytes.size() - tensor.offset);
    end = tensor.offset + tensor.bytes;
    if (!neap::can_dequantize(tensor.type)) continue;
    std::vector<float> values(static_cast<std::size_t>(*neap::checked_elements(tensor.shape)));
    neap::dequantize_blocks(tensor.type, bytes.data() + tensor.offset, values.data(),
                            values.size());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ignoring_errors([&] {
    const auto bytes = std::as_bytes(std::span(data, size));
    const neap::GgufFile file = neap::GgufFile::parse(bytes, "fuzz");
    read_metadata(file);
    read_tensors(file, bytes);
  });
  return 0;
}
