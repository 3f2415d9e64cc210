#include "export/verify.h"

#include <xxhash.h>

#include <fstream>
#include <optional>
#include <vector>

#include "export/dense_tensors.h"
#include "model/weights.h"
#include "neap/check.h"
#include "neap/checkpoint.h"
#include "neap/error.h"

namespace neap {
namespace {

[[noreturn]] void differs(const std::string& folder, const std::string& tensor, const char* what) {
  throw Error(ErrorCode::io, std::string("read back, ") + what, {.file = folder, .tensor = tensor});
}

void verify_module(const Weights& weights, const std::string& module,
                   const Expectation::Module& expected) {
  const std::string& folder = weights.checkpoint().path();
  const std::optional<QuantizedWeight> weight = weights.packed_weight(module);
  if (!weight) differs(folder, module, "the configuration does not describe this module");
  if (layout_of(*weight) != expected.layout || digest_of(*weight) != expected.digest) {
    differs(folder, module, "it decodes to something else than was written");
  }
}

void add(Digest& digest, const QuantizedTensor& tensor) {
  digest.add(tensor.codes.data(), tensor.codes.size());
  digest.add(tensor.scales.data(), tensor.scales.size() * sizeof(float));
  digest.add(tensor.zeros.data(), tensor.zeros.size());
}

void add(Digest& digest, const LobcqTensor& tensor) {
  digest.add(tensor.codes.data(), tensor.codes.size());
  digest.add(tensor.selectors.data(), tensor.selectors.size());
  digest.add(tensor.scales.data(), tensor.scales.size());
  digest.add(&tensor.tensor_scale, sizeof tensor.tensor_scale);
}

void add(Digest& digest, const Fp4Tensor& tensor) {
  digest.add(tensor.codes.data(), tensor.codes.size());
  digest.add(tensor.scales.data(), tensor.scales.size());
  digest.add(&tensor.global_scale, sizeof tensor.global_scale);
}

void add(Digest& digest, const GgufTensor& tensor) {
  digest.add(tensor.codes.data(), tensor.codes.size());
  digest.add(tensor.scales.data(), tensor.scales.size() * sizeof(float));
  digest.add(tensor.minima.data(), tensor.minima.size() * sizeof(float));
  digest.add(tensor.sub_scales.data(), tensor.sub_scales.size());
}

}  // namespace

Digest::Digest() : state_(XXH3_createState()) {
  NEAP_CHECK(state_ != nullptr && XXH3_64bits_reset(state_) == XXH_OK);
}
Digest::~Digest() { XXH3_freeState(state_); }
void Digest::add(const void* bytes, std::size_t count) { XXH3_64bits_update(state_, bytes, count); }
std::uint64_t Digest::value() const { return XXH3_64bits_digest(state_); }

std::uint64_t digest_of_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<char> part(std::size_t{1} << 20);
  Digest digest;
  while (file.read(part.data(), static_cast<std::streamsize>(part.size())) || file.gcount() > 0) {
    digest.add(part.data(), static_cast<std::size_t>(file.gcount()));
  }
  if (!file.eof()) throw Error(ErrorCode::io, "cannot read", {.file = path});
  return digest.value();
}

std::uint64_t digest_of(const QuantizedWeight& weight) {
  Digest digest;
  std::visit([&](const auto& tensor) { add(digest, tensor); }, weight);
  return digest.value();
}

void verify_tensors(const Checkpoint& checkpoint, const std::map<std::string, std::uint64_t>& expected,
                    const std::function<void(std::uint64_t)>& advance) {
  const std::string& folder = checkpoint.path();
  for (const auto& [name, digest] : expected) {
    if (!checkpoint.find(name)) differs(folder, name, "it is missing");
  }
  for (const TensorInfo& info : checkpoint.tensors()) {
    const auto found = expected.find(info.name);
    if (found == expected.end()) differs(folder, info.name, "it is one tensor too many");
    Digest digest;
    visit_bytes(checkpoint, info, [&](auto bytes) { digest.add(bytes.data(), bytes.size()); });
    if (digest.value() != found->second) {
      differs(folder, info.name, "its bytes are not those that were written");
    }
    advance(info.bytes);
  }
}

void verify_output(const std::string& folder, const Expectation& expected,
                   const std::function<void(std::uint64_t)>& advance) {
  const Checkpoint checkpoint = Checkpoint::open(folder);
  const Weights complete(checkpoint, read_config(checkpoint));  // throws if anything is amiss
  verify_tensors(checkpoint, expected.tensors, advance);
  for (const auto& [name, module] : expected.modules) {
    verify_module(complete, name, module);
    advance(0);
  }
}

}  // namespace neap
