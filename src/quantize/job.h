// One output of a run in the making: refused before any work, or planned, written layer by layer, verified, described and named.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "export/export_record.h"
#include "export/model_output.h"
#include "export/source_identity.h"
#include "model/weights.h"
#include "neap/quantize.h"
#include "quantize/importance.h"
#include "quantize/plan.h"
#include "quantize/timing.h"
#include "quantize/walk.h"

namespace neap {

// What all outputs of a run have in common.
struct Run {
  const Checkpoint& checkpoint;
  Weights weights;
  SourceIdentity source;
  std::vector<TokenWindows::Source> source_files = {};
  TokenWindows windows = {};
  PhaseClock clock = {};
  double start = seconds_now();
};

class Job {
 public:
  // Refuses whatever can be refused before any work. `run` outlives the job.
  Job(const Run& run, QuantizeOptions options);

  const QuantizeOptions& options() const { return options_; }
  const Plan& plan() const { return plan_; }
  bool reads_text() const;
  // Whether the walk decides its layers, whose streams others may share.
  bool walks() const { return reads_text() && options_.recipe.method != Method::awq; }
  WalkOptions walk_options() const;
  // The same grid, though another format may want its scales in another type.
  bool shares_grid_with(const Job& other) const { return options_.recipe.to_json() == other.options_.recipe.to_json(); }

  void write(const std::string& module, DecidedLayer layer);
  void write_dense(const std::string& tensor, MatrixView<const float> values) { writer_->write_dense(tensor, values); }

  // Closes, verifies, describes and names the output. records: of its layers. clock: the time of its grid. together: the outputs
  // that one walk decided, this one among them.
  QuantizeReport finish(std::vector<LayerRecord> records, PhaseClock clock, const std::vector<std::string>& together);

 private:
  bool predicts() const;
  VerifyReport verify(const Checkpoint& closed, const ExportRecord& record) const;
  void describe(const std::vector<std::string>& together);

  const Run& run_;
  QuantizeOptions options_;
  Plan plan_;
  CodebookSet codebooks_;  // of LO-BCQ
  std::optional<Importances> importances_;
  std::unique_ptr<ModelOutput> writer_;
  QuantizeReport report_;
};

}  // namespace neap
