// Reading an output back, before anybody is told that it is there.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "codec/quantized_weight.h"
#include "neap/checkpoint.h"

struct XXH3_state_s;

namespace neap {

// A 64-bit hash (XXH3) of bytes that come in runs.
class Digest {
 public:
  Digest();
  ~Digest();
  Digest(const Digest&) = delete;
  Digest& operator=(const Digest&) = delete;

  void add(const void* bytes, std::size_t count);
  std::uint64_t value() const;

 private:
  XXH3_state_s* state_;
};

// Of all of a file's bytes. Throws Error(io).
std::uint64_t digest_of_file(const std::string& path);

// Of what a tensor means, not of how it is packed: codes, scales and zeros; codes, selectors and
// scales.
std::uint64_t digest_of(const QuantizedWeight& weight);

// What the output must hold.
struct Expectation {
  std::map<std::string, std::uint64_t> tensors;  // name -> Digest of its bytes
  struct Module {
    WeightLayout layout;
    std::uint64_t digest;  // digest_of
  };
  std::map<std::string, Module> modules;
};

// Compares every tensor's bytes; advance and errors as below.
void verify_tensors(const Checkpoint& checkpoint, const std::map<std::string, std::uint64_t>& expected,
                    const std::function<void(std::uint64_t)>& advance);

// Opens the model in `folder` as any reader would, checks it against its own config.json, and
// compares every tensor, and every module decoded, with what was expected. `advance` is called with
// the number of bytes compared and may throw. Throws Error(io) naming the tensor that came back
// different; also whatever the readers throw.
void verify_output(const std::string& folder, const Expectation& expected,
                   const std::function<void(std::uint64_t)>& advance);

}  // namespace neap
