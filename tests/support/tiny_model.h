// A golden model with a tokenizer beside it: a checkpoint that the whole pipeline can run on.
#pragma once

#include <filesystem>
#include <string>

#include "support/byte_tokenizer.h"
#include "support/temp_folder.h"

namespace neap::test {

// Copies tests/golden/models/NAME into `folder` and adds a byte tokenizer; returns the model's path.
inline std::string tiny_model(const TempFolder& folder, const std::string& name) {
  const std::string path = folder / name;
  std::filesystem::create_directories(path);
  for (const char* file : {"config.json", "model.safetensors"}) {
    std::filesystem::copy_file(std::string(NEAP_GOLDEN_DIR) + "/models/" + name + "/" + file,
                               path + "/" + file);
  }
  folder.write(name + "/tokenizer.json", byte_tokenizer_json(/*add_bos=*/false));
  folder.write(name + "/tokenizer_config.json", R"({"bos_token": "<s>", "eos_token": "</s>"})");
  return path;
}

}  // namespace neap::test
