#include "export/verify.h"

#include <xxhash.h>

#include "codec/pack_quantized.h"
#include "export/dense_tensors.h"
#include "model/packed_modules.h"
#include "model/weights.h"
#include "neap/check.h"
#include "neap/checkpoint.h"
#include "neap/error.h"

namespace neap {
namespace {

[[noreturn]] void differs(const std::string& folder, const std::string& tensor, const char* what) {
  throw Error(ErrorCode::io, std::string("read back, ") + what, {.file = folder, .tensor = tensor});
}

StoredTensor stored(const Checkpoint& checkpoint, const std::string& name) {
  const TensorInfo& info = checkpoint.info(name);
  return {info, checkpoint.bytes(info)};
}

void verify_module(const Checkpoint& checkpoint, const PackedModules& packed,
                   const std::string& module, const Expectation::Module& expected) {
  const PackedGrid* grid = packed.find(module);
  const GroupLayout& layout = expected.layout;
  if (!grid || grid->bits != layout.bits || grid->group != layout.group ||
      grid->symmetric != layout.symmetric) {
    differs(checkpoint.path(), module, "the configuration does not describe this module");
  }
  PackQuantizedModule parts{.packed = stored(checkpoint, module + ".weight_packed"),
                            .scale = stored(checkpoint, module + ".weight_scale"),
                            .shape = stored(checkpoint, module + ".weight_shape"),
                            .zero_point = {}};
  if (!layout.symmetric) parts.zero_point = stored(checkpoint, module + ".weight_zero_point");
  const QuantizedTensor tensor =
      decode_pack_quantized(parts, grid->bits, grid->group, grid->symmetric);
  if (tensor.layout != layout || digest_of(tensor) != expected.digest) {
    differs(checkpoint.path(), module, "it decodes to something else than was written");
  }
}

}  // namespace

Digest::Digest() : state_(XXH3_createState()) {
  NEAP_CHECK(state_ != nullptr && XXH3_64bits_reset(state_) == XXH_OK);
}
Digest::~Digest() { XXH3_freeState(state_); }
void Digest::add(const void* bytes, std::size_t count) { XXH3_64bits_update(state_, bytes, count); }
std::uint64_t Digest::value() const { return XXH3_64bits_digest(state_); }

std::uint64_t digest_of(const QuantizedTensor& tensor) {
  Digest digest;
  digest.add(tensor.codes.data(), tensor.codes.size());
  digest.add(tensor.scales.data(), tensor.scales.size() * sizeof(float));
  digest.add(tensor.zeros.data(), tensor.zeros.size());
  return digest.value();
}

void verify_output(const std::string& folder, const Expectation& expected,
                   const std::function<void(std::uint64_t)>& advance) {
  const Checkpoint checkpoint = Checkpoint::open(folder);
  const Weights complete(checkpoint, read_config(checkpoint));  // throws if anything is amiss
  for (const TensorInfo& info : checkpoint.tensors()) {
    const auto found = expected.tensors.find(info.name);
    if (found == expected.tensors.end()) differs(folder, info.name, "it is one tensor too many");
    Digest digest;
    visit_bytes(checkpoint, info, [&](auto bytes) { digest.add(bytes.data(), bytes.size()); });
    if (digest.value() != found->second) {
      differs(folder, info.name, "its bytes are not those that were written");
    }
    advance(info.bytes);
  }
  NEAP_CHECK(checkpoint.tensors().size() == expected.tensors.size());
  const auto packed = PackedModules::from_config(checkpoint.config_json(), folder + "/config.json");
  for (const auto& [name, module] : expected.modules) {
    verify_module(checkpoint, packed, name, module);
    for (const char* part : {".weight_packed", ".weight_scale"}) {
      checkpoint.release(checkpoint.info(name + part));
    }
    advance(0);
  }
}

}  // namespace neap
