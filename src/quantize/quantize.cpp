#include "neap/quantize.h"

#include <algorithm>
#include <deque>
#include <filesystem>
#include <set>

#include "base/parallel.h"
#include "export/verify.h"
#include "neap/error.h"
#include "quantize/awq.h"
#include "quantize/calibration_text.h"
#include "quantize/job.h"
#include "quantize/round_all.h"

namespace neap {
namespace {

TokenWindows windows_for(const Checkpoint& checkpoint, const QuantizeOptions& options) {
  const Recipe& recipe = options.recipe;
  return calibration_windows(
      checkpoint, {.files = options.calibration_files, .samples = recipe.samples, .length = recipe.length, .seed = recipe.seed},
      {.precision = recipe.precision, .max_memory = options.max_memory, .progress = options.progress});
}

// Statistics of fewer tokens than a layer has inputs are mostly ridge, and the result is worse than plain rounding.
void require_enough(const TokenWindows& windows, const ModelConfig& config) {
  if (windows.tokens() >= config.hidden) return;
  throw Error(ErrorCode::data, "too little calibration text",
              {.file = windows.sources.empty() ? "" : windows.sources.front().name,
               .expected = std::to_string(config.hidden) + " tokens at the very least, better " +
                           std::to_string(20 * config.intermediate),
               .found = std::to_string(windows.tokens())});
}

// A job, and what came of it.
struct Ordered {
  Job job;
  QuantizeOutcome outcome;
};

// Runs `work`; an Error of its that is no cancellation becomes the job's.
template <class Work>
void attempt(Ordered& ordered, Work&& work) {
  try {
    work();
  } catch (const Error& error) {
    if (error.code() == ErrorCode::cancelled) throw;
    ordered.outcome.failure = error;
  }
}

// Jobs whose layers are decided once.
struct SharedGrid {
  std::vector<Ordered*> jobs;
  PhaseClock clock = {};

  Job& first() const { return jobs.front()->job; }

  // Hands layers to the jobs that have not failed; throws when none is left.
  template <class Write>
  void each(Write&& write) {
    for (Ordered* ordered : jobs) {
      if (!ordered->outcome.failure) attempt(*ordered, [&] { write(ordered->job); });
    }
    for (Ordered* ordered : jobs) {
      if (!ordered->outcome.failure) return;
    }
    throw *jobs.front()->outcome.failure;
  }
  LayerSink sink() {
    return {.quantized = [this](const std::string& module, const DecidedLayer& layer) { each([&](Job& job) { job.write(module, layer); }); },
            .dense = [this](const std::string& tensor, MatrixView<const float> v) { each([&](Job& job) { job.write_dense(tensor, v); }); }};
  }
};

void finish(SharedGrid& grid, const std::vector<LayerRecord>& records, const std::vector<std::string>& together) {
  for (Ordered* ordered : grid.jobs) {
    if (ordered->outcome.failure) continue;
    attempt(*ordered, [&] { ordered->outcome.report = ordered->job.finish(records, grid.clock, together); });
  }
}

// Grids that walk alike, one pass for all of them.
void decide(const Run& run, const std::vector<SharedGrid*>& grids) {
  std::vector<WalkTask> tasks;
  std::vector<std::string> together;
  for (SharedGrid* grid : grids) {
    tasks.push_back({.plan = grid->first().plan(), .options = grid->first().walk_options(), .sink = grid->sink(), .clock = grid->clock});
    for (const Ordered* ordered : grid->jobs) together.push_back(ordered->job.options().output);
  }
  const auto fail = [](SharedGrid& grid, const Error& error) {
    for (Ordered* ordered : grid.jobs) {
      if (!ordered->outcome.failure) ordered->outcome.failure = error;
    }
  };
  try {
    if (grids.front()->first().walks()) {
      walk_together(run.weights, run.windows, tasks);
    } else {
      WalkTask& task = tasks.front();
      task.records = task.options.recipe.method == Method::awq ? walk_awq(run.weights, task.plan, run.windows, task.options, task.sink, task.clock)
                                                              : round_all(run.weights, task.plan, task.options, task.sink, task.clock);
    }
  } catch (const Error& error) {
    if (error.code() == ErrorCode::cancelled) throw;
    for (SharedGrid* grid : grids) fail(*grid, error);
  }
  for (std::size_t i = 0; i < grids.size(); ++i) {
    try {
      if (tasks[i].failure) std::rethrow_exception(tasks[i].failure);
    } catch (const Error& error) {
      fail(*grids[i], error);
    }
    finish(*grids[i], tasks[i].records, together);
  }
}

std::vector<SharedGrid> share_grids(std::deque<Ordered>& jobs) {
  std::vector<SharedGrid> grids;
  for (Ordered& ordered : jobs) {
    const auto same = std::find_if(grids.begin(), grids.end(), [&](const SharedGrid& grid) { return grid.first().shares_grid_with(ordered.job); });
    same == grids.end() ? grids.push_back({{&ordered}}) : same->jobs.push_back(&ordered);
  }
  return grids;
}

// Those that one walk decides, in the order of their first jobs.
std::vector<std::vector<SharedGrid*>> share_walks(std::vector<SharedGrid>& grids) {
  std::vector<std::vector<SharedGrid*>> walks;
  for (SharedGrid& grid : grids) {
    const auto alike = std::find_if(walks.begin(), walks.end(), [&](const std::vector<SharedGrid*>& walk) {
      const Job& other = walk.front()->first();
      return grid.first().walks() && other.walks() && walk_alike(grid.first().options().recipe, other.options().recipe);
    });
    alike == walks.end() ? walks.push_back({&grid}) : alike->push_back(&grid);
  }
  return walks;
}

void check_same_text(const Recipe& a, const Recipe& b) {
  if (a.samples == b.samples && a.length == b.length && a.seed == b.seed && a.precision == b.precision) return;
  throw Error(ErrorCode::argument, "outputs of one run share their calibration text", {.expected = "the same samples, length, seed and precision", .found = "others"});
}

void check_names(const QuantizeOptions& options, const std::vector<OtherOutput>& others) {
  const auto whole = [](const std::string& path) {
    const auto normal = std::filesystem::absolute(path).lexically_normal();
    return normal.has_filename() ? normal : normal.parent_path();
  };
  std::vector<std::filesystem::path> taken = {whole(options.output)};
  for (const OtherOutput& other : others) {
    const auto path = whole(other.output);
    for (const auto& before : taken) {
      if (path == before) throw Error(ErrorCode::argument, "two outputs have this name", {.file = other.output});
      const auto [a, b] = std::mismatch(path.begin(), path.end(), before.begin(), before.end());
      if (a == path.end() || b == before.end()) throw Error(ErrorCode::argument, "one output lies within another", {.file = other.output, .found = before.string()});
    }
    taken.push_back(path);
  }
}

std::vector<TokenWindows::Source> hashes_of_files(const Checkpoint& checkpoint) {
  std::set<std::string> paths;
  for (const TensorInfo& tensor : checkpoint.tensors()) paths.insert(tensor.file);
  std::vector<TokenWindows::Source> files;
  for (const std::string& path : paths) files.push_back({std::filesystem::path(path).filename().string(), hex(digest_of_file(path)), 0});
  return files;
}

}  // namespace

std::vector<QuantizeOutcome> quantize_all(const Checkpoint& checkpoint, const QuantizeOptions& options, const std::vector<OtherOutput>& others) {
  const ThreadScope threads(options.threads);
  Run run{.checkpoint = checkpoint, .weights = Weights(checkpoint, read_config(checkpoint)), .source = identify(checkpoint)};
  if (!options.base_model.empty()) run.source.repository = options.base_model;
  check_names(options, others);
  std::deque<Ordered> jobs;
  jobs.push_back({Job(run, options), {options.output, {}, {}}});
  for (const OtherOutput& other : others) {
    check_same_text(options.recipe, other.recipe);
    QuantizeOptions its = options;
    its.recipe = other.recipe;
    its.output = other.output;
    its.format = other.format;
    jobs.push_back({Job(run, std::move(its)), {other.output, {}, {}}});
  }
  if (std::any_of(jobs.begin(), jobs.end(), [](const Ordered& ordered) { return ordered.job.reads_text(); })) {
    run.windows = timed(run.clock, "calibration text", 0, [&] { return windows_for(checkpoint, options); });
    require_enough(run.windows, run.weights.config());
  }
  run.source_files = timed(run.clock, "hashing the source", 0, [&] { return hashes_of_files(checkpoint); });
  std::vector<SharedGrid> grids = share_grids(jobs);
  for (const auto& walk : share_walks(grids)) decide(run, walk);
  std::vector<QuantizeOutcome> outcomes;
  for (Ordered& ordered : jobs) outcomes.push_back(std::move(ordered.outcome));
  return outcomes;
}

QuantizeReport quantize(const Checkpoint& checkpoint, const QuantizeOptions& options) {
  QuantizeOutcome outcome = std::move(quantize_all(checkpoint, options, {}).front());
  if (outcome.failure) throw *outcome.failure;
  return *std::move(outcome.report);
}

}  // namespace neap
