// What the tests of the exporter share: scratch folders, the golden models, exports of random
// codes.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "codec/random_tensor.h"
#include "export/dense_tensors.h"
#include "export/model_writer.h"
#include "export/verify.h"
#include "neap/checkpoint.h"
#include "neap/error.h"

namespace neap {

class ScratchTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "neap-export-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  std::string at(const std::string& name) const { return (root_ / name).string(); }
  std::size_t entries() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(root_), {}));
  }

  std::filesystem::path root_;
};

inline std::string golden_model(const std::string& name) {
  return std::string(NEAP_GOLDEN_DIR) + "/models/" + name;
}
inline std::string golden_gguf(const std::string& name) {
  return std::string(NEAP_GOLDEN_DIR) + "/gguf/" + name + ".gguf";
}

inline Weights open_weights(const std::string& model) {
  Checkpoint checkpoint = Checkpoint::open(model);
  return Weights(checkpoint, read_config(checkpoint));
}

using Layouts = std::map<std::string, GroupLayout>;
using Tensors = std::map<std::string, QuantizedTensor>;

// The same layout for every linear module but the head.
inline Layouts uniform_layouts(const ModelConfig& config, const GroupLayout& layout) {
  Layouts layouts;
  for (const std::string& module : linear_modules(config)) {
    if (module != "lm_head") layouts[module] = layout;
  }
  return layouts;
}

inline Tensors random_tensors(const ModelConfig& config, const Layouts& layouts) {
  Tensors tensors;
  std::uint32_t seed = 1;
  for (const auto& [module, layout] : layouts) {
    const Shape shape = linear_shape(config, module);
    tensors[module] = random_tensor(layout, shape[0], shape[1], seed++);
  }
  return tensors;
}

inline WeightLayouts widened(const Layouts& layouts) { return {layouts.begin(), layouts.end()}; }

inline ModelWriter make_writer(const Weights& weights, const Layouts& layouts, const ExportOptions& options) {
  return ModelWriter(weights, widened(layouts), make_compressed_tensors_format(), options);
}

inline void export_tensors(const Weights& weights, const Layouts& layouts, const Tensors& tensors,
                           const ExportOptions& options) {
  ModelWriter writer = make_writer(weights, layouts, options);
  for (const auto& [module, tensor] : tensors) writer.write(module, {tensor, {}});
  writer.finish();
}

// What verify_output is to find in `folder`: its tensors as they are now, and these modules.
inline Expectation expectation_of(const std::string& folder, const std::map<std::string, QuantizedWeight>& modules) {
  Expectation expected;
  const Checkpoint output = Checkpoint::open(folder);
  for (const TensorInfo& info : output.tensors()) {
    Digest digest;
    digest.add(output.bytes(info).data(), info.bytes);
    expected.tensors[info.name] = digest.value();
  }
  for (const auto& [module, weight] : modules) expected.modules[module] = {layout_of(weight), digest_of(weight)};
  return expected;
}

// Flips a bit of about `count` bytes of the model's file, one at a time: the readers or the comparison notice each.
inline void expect_flips_noticed(const std::string& folder, const Expectation& expected, std::uint64_t count) {
  const auto verify = [&] { verify_output(folder, expected, [](std::uint64_t) {}); };
  verify();
  const std::string file = folder + "/model.safetensors";
  const auto size = std::filesystem::file_size(file);
  ASSERT_GT(size, count);
  for (std::uint64_t at = 0; at < size; at += 1 + size / count) {
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekg(static_cast<std::streamoff>(at));
    const char byte = static_cast<char>(stream.get());
    const auto put = [&](char c) {
      stream.seekp(static_cast<std::streamoff>(at));
      stream.put(c);
      stream.flush();
    };
    put(static_cast<char>(byte ^ 4));
    EXPECT_THROW(verify(), Error) << at;
    put(byte);
  }
  verify();
}

// Cuts the model's file shorter and shorter, which ruins it.
inline void expect_truncations_refused(const std::string& folder) {
  const std::string file = folder + "/model.safetensors";
  for (auto size = std::filesystem::file_size(file); size > 100; size -= 1 + size / 97) {
    std::filesystem::resize_file(file, size - 1);
    EXPECT_THROW(open_weights(folder), Error) << size;
  }
}

template <class F>
Error error_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error";
  return Error(ErrorCode::data, "none");
}

}  // namespace neap
