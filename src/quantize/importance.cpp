#include "quantize/importance.h"

#include <numeric>
#include <utility>

#include "export/dense_tensors.h"
#include "export/export_record.h"
#include "export/verify.h"
#include "io/imatrix.h"
#include "io/mapped_file.h"
#include "neap/error.h"

namespace neap {
namespace {

// GGUF's names of the weights that the model may have entries for, and their modules.
std::map<std::string, std::string> weights_of(const ModelConfig& config) {
  std::map<std::string, std::string> modules = {{std::string(kHead.gguf) + ".weight", "lm_head"}};
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    for (std::size_t r = 0; r < kRoles; ++r) {
      const auto role = static_cast<Role>(r);
      modules[gguf_weight_name(layer, role)] = module_name(layer, role);
    }
  }
  return modules;
}

std::vector<float> objective(const ImportanceMatrix::Entry& entry, double ridge) {
  const double mean = std::accumulate(entry.sums.begin(), entry.sums.end(), 0.0) / static_cast<double>(entry.sums.size());
  if (mean == 0) return std::vector<float>(entry.sums.size(), 1.0f);
  std::vector<float> values;  // relative to the mean: nothing overflows, nothing underflows that counts
  for (const float sum : entry.sums) values.push_back(static_cast<float>(sum / mean + ridge));
  return values;
}

}  // namespace

Importances read_importances(const std::string& file, const Plan& plan, const ModelConfig& config, double ridge) {
  const MappedFile bytes(file);
  const ImportanceMatrix matrix = parse_imatrix(bytes.bytes(), file);
  Digest digest;
  digest.add(bytes.bytes().data(), bytes.bytes().size());
  Importances result{.modules = {},
                     .source = {file, hex(digest.value()), matrix.chunks * matrix.chunk_size},
                     .windows = matrix.chunks};
  const auto known = weights_of(config);
  for (const auto& [name, entry] : matrix.entries) {
    if (known.contains(name)) continue;
    throw Error(ErrorCode::format, "an importance matrix of another model: this one has no such weight",
                {.file = file, .tensor = name});
  }
  for (const auto& [name, module] : known) {
    if (plan.find(module) == nullptr) continue;
    const auto entry = matrix.entries.find(name);
    if (entry == matrix.entries.end()) {
      throw Error(ErrorCode::format, "the importance matrix has no entry of this name", {.file = file, .tensor = name});
    }
    const auto inputs = static_cast<std::size_t>(linear_shape(config, module)[1]);
    if (entry->second.sums.size() != inputs) {
      throw Error(ErrorCode::format, "an importance matrix of another model: the layer has another number of inputs",
                  {.file = file, .tensor = name, .expected = std::to_string(inputs),
                   .found = std::to_string(entry->second.sums.size())});
    }
    result.modules[module] = objective(entry->second, ridge);
  }
  return result;
}

}  // namespace neap
