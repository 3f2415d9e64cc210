// A small Hugging Face model held in memory, so that a test can change one thing and open the
// result.
#pragma once

#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "codec/pack_quantized.h"
#include "io/json.h"
#include "io/safetensors_writer.h"
#include "neap/checkpoint.h"
#include "support/temp_folder.h"

namespace neap::test {

class EditableModel {
 public:
  struct Tensor {
    DType type;
    Shape shape;
    std::vector<std::byte> bytes;
  };

  // One of tests/golden/models.
  explicit EditableModel(const std::string& name)
      : config(parse_json(read_text_file(folder_of(name) + "/config.json"), name)) {
    const Checkpoint checkpoint = Checkpoint::open(folder_of(name));
    for (const TensorInfo& tensor : checkpoint.tensors()) {
      const auto bytes = checkpoint.bytes(tensor);
      tensors[tensor.name] = {tensor.type, tensor.shape, {bytes.begin(), bytes.end()}};
    }
  }

  static std::string folder_of(const std::string& name) {
    return NEAP_GOLDEN_DIR "/models/" + name;
  }

  // In place of MODULE.weight, its packed form; `quantization_config` is the caller's affair.
  void pack(const std::string& module, const QuantizedTensor& tensor) {
    tensors.erase(module + ".weight");
    const auto parts = pack_quantized_parts(tensor.layout, tensor.rows, tensor.cols);
    auto bytes = encode_pack_quantized(tensor);
    for (std::size_t i = 0; i < parts.size(); ++i)
      tensors[module + parts[i].suffix] = {parts[i].type, parts[i].shape, std::move(bytes[i])};
  }

  // Written to a folder of its own, which lives as long as this object.
  Checkpoint open() {
    const std::string folder = folder_ / std::to_string(opened_++);
    std::filesystem::create_directory(folder);
    write_file_atomically(folder + "/config.json", config.dump());
    std::vector<TensorSpec> specs;
    for (const auto& [name, tensor] : tensors) specs.push_back({name, tensor.type, tensor.shape});
    SafetensorsWriter writer(folder, specs, std::uint64_t{1} << 40, {{"format", "pt"}});
    for (const auto& [name, tensor] : tensors) writer.write(name, tensor.bytes);
    writer.finish();
    return Checkpoint::open(folder);
  }

  Json config;
  std::map<std::string, Tensor> tensors;

 private:
  TempFolder folder_;
  int opened_ = 0;
};

}  // namespace neap::test
