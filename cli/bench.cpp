// neap bench: how fast a model runs here, and what share of the machine's limits that is. Columns and
// JSON names are llama-bench's where both have them, so that outputs can be compared line by line.
#include "neap/bench.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <ctime>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "commands.h"
#include "neap/error.h"
#include "neap/model.h"
#include "neap/version.h"
#include "options.h"

namespace neap::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kFooter[] =
    "ppN is a prompt of N tokens at once, tgN the generation of N tokens one after another; @ dN:\n"
    "behind N tokens that are in the cache already. Nothing is sampled. Each test runs once to warm up\n"
    "and then -r times; t/s is mean and standard deviation.\n"
    "\n"
    "GB/s counts the weights (once a pass) and the keys and values that a test has to read; GOP/s the\n"
    "multiplications and additions of linear layers, head and attention. Their shares are of what this\n"
    "machine reaches on the same threads, measured first: reading memory, and oneDNN's own large\n"
    "product in the same arithmetic. A prompt is bound by products, generation by reading.\n"
    "\n"
    "Examples:\n"
    "  neap bench small-w4\n"
    "  neap bench model.gguf -t 2 -p 128,512,2048 -n 0\n"
    "  neap bench small-w4 -p 0 -n 128 -d 0,2048 --json | jq '.[].avg_ts'";

struct BenchCommand {
  std::string model;
  std::vector<std::int64_t> prompts = {512}, generations = {128}, depths = {0};
  int repetitions = 5;
  Precision precision = Precision::bf16;
  std::optional<KvType> kv_type;
  ScaleChoice activation_scales = ScaleChoice::maximum;
  PackedOptions kernels;
  CommonOptions common;
};

CLI::Option* add_counts(CLI::App& app, const std::string& name, std::vector<std::int64_t>& counts,
                        const std::string& description) {
  return app.add_option(name, counts, description)
      ->delimiter(',')
      ->check(kNotNegative)
      ->type_size(1)
      ->type_name("N,..")
      ->default_str(std::to_string(counts[0]));
}

void add_options(CLI::App& app, BenchCommand& c) {
  add_model(app, c.model);
  add_counts(app, "-p,--n-prompt", c.prompts, "tokens of the prompt; 0: no such test");
  add_counts(app, "-n,--n-gen", c.generations, "tokens to generate; 0: no such test");
  add_counts(app, "-d,--n-depth", c.depths, "tokens that stand before them");
  app.add_option("-r,--repetitions", c.repetitions, "of each test")
      ->check(CLI::Range(1, 1000))
      ->type_name("R")
      ->capture_default_str();
  add_precision(app, c.precision);
  add_kv_cache(app, c.kv_type);
  add_kernels(app, c.kernels);
  add_activation_scales(app, c.activation_scales);
  add_common(app, c.common, "print a JSON array, one object per test");
}

std::vector<BenchTest> tests_of(const BenchCommand& c) {
  std::vector<BenchTest> tests;
  for (const std::int64_t depth : c.depths) {
    for (const std::int64_t n : c.prompts) {
      if (n > 0) tests.push_back({.n_prompt = n, .n_depth = depth});
    }
    for (const std::int64_t n : c.generations) {
      if (n > 0) tests.push_back({.n_gen = n, .n_depth = depth});
    }
  }
  return tests;
}

std::string cpu_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != line.npos) return line.substr(colon + 2);
  }
  return "unknown";
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

std::uint64_t file_bytes(const Checkpoint& checkpoint) {
  std::uint64_t bytes = 0;
  for (const TensorInfo& tensor : checkpoint.tensors()) bytes += tensor.bytes;
  return bytes;
}

// What all of a command's tests share.
struct Subject {
  std::string file, type, kv_type;
  std::uint64_t bytes = 0;
  Json kernels = {};
};

Subject subject_of(const BenchCommand& c, const Checkpoint& checkpoint, const ModelConfig& config,
                   const BenchResult& result) {
  const KvType own = c.precision == Precision::bf16 ? KvType::bf16 : KvType::f32;
  Subject subject{checkpoint.path(), "", name_of(c.kv_type.value_or(own)), file_bytes(checkpoint),
                  kernels_json(c.kernels, c.activation_scales)};
  const auto parameters = static_cast<double>(result.parameters);
  subject.type = fmt::format("{} {:.0f}M, {:.2f} bits", config.family, parameters / 1e6,
                             8 * static_cast<double>(subject.bytes) / parameters);
  return subject;
}

std::string test_name(const BenchTest& test) {
  const std::string name =
      test.n_gen > 0 ? fmt::format("tg{}", test.n_gen) : fmt::format("pp{}", test.n_prompt);
  return test.n_depth > 0 ? fmt::format("{} @ d{}", name, test.n_depth) : name;
}

constexpr std::array kArithmetic = {"f32", "bf16", "int8"};

Json limits_json(const MachineLimits& limits) {
  Json json = {{"read_gb_s", limits.read / 1e9}};
  for (std::size_t a = 0; a < kArithmetic.size(); ++a) {
    if (limits.products[a] > 0) {
      json[fmt::format("{}_gop_s", kArithmetic[a])] = limits.products[a] / 1e9;
    }
  }
  return json;
}

Json json_of(const BenchRun& run, const BenchResult& result, const Subject& subject) {
  Json ns = Json::array(), ts = Json::array();
  const auto tokens = static_cast<double>(run.tokens());
  double squares = 0;
  const double mean = run.mean_seconds();
  for (const double seconds : run.seconds) {
    ns.push_back(std::llround(seconds * 1e9));
    ts.push_back(tokens / seconds);
    squares += (seconds - mean) * (seconds - mean);
  }
  const auto n = static_cast<double>(run.seconds.size());
  Json json = {{"engine", std::string("neap ") + version()},
          {"cpu_info", cpu_name()},
          {"backends", "CPU"},
          {"model_filename", subject.file},
          {"model_type", subject.type},
          {"model_size", subject.bytes},
          {"model_n_params", result.parameters},
          {"n_threads", result.threads},
          {"type_k", subject.kv_type},
          {"type_v", subject.kv_type},
          {"n_prompt", run.test.n_prompt},
          {"n_gen", run.test.n_gen},
          {"n_depth", run.test.n_depth},
          {"test_time", utc_now()},
          {"avg_ns", std::llround(mean * 1e9)},
          {"stddev_ns", n > 1 ? std::llround(std::sqrt(squares / (n - 1)) * 1e9) : 0},
          {"avg_ts", run.mean_speed()},
          {"stddev_ts", run.stddev_speed()},
          {"samples_ns", ns},
          {"samples_ts", ts},
          {"bytes_per_token", run.bytes / tokens},
          {"operations_per_token", run.all_products() / tokens},
          {"gb_s", run.bytes / mean / 1e9},
          {"gop_s", run.all_products() / mean / 1e9},
          {"read_share", run.read_share(result.limits)},
          {"product_share", run.product_share(result.limits)},
          {"limits", limits_json(result.limits)}};
  json.update(subject.kernels);
  return json;
}

// Markdown that can be read as it is.
std::string table(const BenchResult& result, const Subject& subject) {
  constexpr auto kRow = "| {:<28} | {:>10} | {:>9} | {:>7} | {:>7} | {:>14} | {:>17} | {:>6} | {:>6} | {:>6} | {:>7} |\n";
  std::string text = fmt::format(kRow, "model", "size", "params", "backend", "threads", "test", "t/s",
                                 "GB/s", "share", "GOP/s", "share");
  text += fmt::format("| {:-<28} | {:->9}: | {:->8}: | {:-<7} | {:->6}: | {:->13}: | {:->16}: | {:->5}: | {:->5}: | {:->5}: | {:->6}: |\n",
                      "", "", "", "", "", "", "", "", "", "", "");
  for (const BenchRun& run : result.runs) {
    const double seconds = run.mean_seconds();
    text += fmt::format(
        kRow, subject.type, fmt::format("{:.2f} MiB", static_cast<double>(subject.bytes) / 0x1p20),
        fmt::format("{:.2f} M", static_cast<double>(result.parameters) / 1e6), "CPU", result.threads,
        test_name(run.test), fmt::format("{:.2f} ± {:.2f}", run.mean_speed(), run.stddev_speed()),
        fmt::format("{:.1f}", run.bytes / seconds / 1e9),
        fmt::format("{:.0f} %", 100 * run.read_share(result.limits)),
        fmt::format("{:.0f}", run.all_products() / seconds / 1e9),
        fmt::format("{:.0f} %", 100 * run.product_share(result.limits)));
  }
  text += fmt::format("\nThis machine on {} threads: memory read {:.1f} GB/s", result.threads,
                      result.limits.read / 1e9);
  for (std::size_t a = 0; a < kArithmetic.size(); ++a) {
    if (result.limits.products[a] > 0) {
      text += fmt::format(", {} products {:.0f} GOP/s", kArithmetic[a], result.limits.products[a] / 1e9);
    }
  }
  return text + "\n";
}

void run(const BenchCommand& c, Console& console) {
  const std::vector<BenchTest> tests = tests_of(c);
  const auto checkpoint = Checkpoint::open(c.model);
  const auto model = load_model(checkpoint, {.precision = c.precision,
                                             .input_scales = c.activation_scales,
                                             .kv_type = c.kv_type,
                                             .packed = packed_linears(c.kernels)});
  const BenchResult result = run_bench(*model, {.tests = tests,
                                                .repetitions = c.repetitions,
                                                .threads = c.common.threads,
                                                .progress = console.progress()});
  const Subject subject = subject_of(c, checkpoint, model->config(), result);
  console.clear_progress();
  if (!c.common.json) {
    console.print(table(result, subject));
    return;
  }
  Json json = Json::array();
  for (const BenchRun& run : result.runs) json.push_back(json_of(run, result, subject));
  console.print(json.dump(2) + "\n");
}

}  // namespace

Command make_bench(CLI::App& program) {
  auto command = std::make_shared<BenchCommand>();
  CLI::App* app = program.add_subcommand("bench", "Measure speed, and the machine's limits beside it");
  add_options(*app, *command);
  app->footer(kFooter);
  return {app, [command](Console& console) {
            command->common.apply(console);
            run(*command, console);
          }};
}

}  // namespace neap::cli
