// A quantized model in the making, whatever the files are like that it becomes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "export/output_format.h"
#include "neap/matrix.h"

namespace neap {

class ModelOutput {
 public:
  // Without commit() before it, removes everything again.
  virtual ~ModelOutput() = default;

  // Modules come in any order, each once, with the layout that was announced.
  virtual void write(const std::string& module, const DecidedLayer& layer) = 0;
  // Instead of the source's values of a tensor that stays dense
  // ("model.layers.0.input_layernorm.weight"; a vector is one row), rounded to the type that it is
  // stored in.
  virtual void write_dense(const std::string& tensor, MatrixView<const float> values) = 0;
  // A file of the caller's beside the weights ("quantization_report.json").
  virtual void write_file(const std::string& name, const std::string& contents) = 0;

  // Known from the beginning: what the tensors take, all and in total bits per weight of the model.
  virtual std::uint64_t tensor_bytes() const = 0;
  virtual double bits_per_weight() const = 0;

  // Copies what was not written, syncs, reads every tensor back and compares it with what was
  // meant. After it only small files may follow. NEAP_CHECKs that every announced module was
  // written. Throws Error(io | cancelled).
  virtual void close() = 0;
  // What was closed, until commit() gives it its name: a model like any other, and hashes of its bytes.
  virtual std::string closed_path() const = 0;
  virtual const std::map<std::string, std::uint64_t>& tensor_digests() const = 0;
  // Gives the whole its name, as the last act. Throws Error(io | argument).
  virtual void commit() = 0;
  void finish() {
    close();
    commit();
  }

  // Facts for whoever reads the output of the program: what was rounded, what was left out and why.
  virtual const std::vector<std::string>& notes() const = 0;
};

}  // namespace neap
