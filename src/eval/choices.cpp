// Multiple-choice questions by log-likelihood, with the conventions of lm-evaluation-harness (L. Gao et
// al., "The Language Model Evaluation Harness", 2024; its task type multiple_choice).
#include <algorithm>
#include <cctype>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/parallel.h"
#include "eval/logit_stream.h"
#include "eval/softmax.h"
#include "eval/statistics.h"
#include "neap/error.h"
#include "neap/eval.h"

namespace neap {
namespace {

using Json = nlohmann::json;

struct Line {
  const std::string& file;
  std::int64_t number;

  [[noreturn]] void fail(const std::string& why, const std::string& found = {}) const {
    throw Error(ErrorCode::format, "line " + std::to_string(number) + ": " + why,
                {.file = file, .found = found});
  }
};

std::string text_of(const Json& object, const char* key, const Line& line) {
  if (!object[key].is_string()) line.fail(std::string("'") + key + "' is not a text");
  return object[key].get<std::string>();
}

std::string context_of(const Json& object, const Line& line) {
  const bool context = object.contains("context"), question = object.contains("question");
  if (context == question) line.fail("needs either 'context' or 'question'");
  if (context) return text_of(object, "context", line);
  return "Question: " + text_of(object, "question", line) + "\nAnswer:";
}

std::vector<std::string> choices_of(const Json& object, const Line& line) {
  if (!object.contains("choices") || !object["choices"].is_array() || object["choices"].size() < 2) {
    line.fail("'choices' is not a list of two or more texts");
  }
  std::vector<std::string> choices;
  for (const Json& choice : object["choices"]) {
    if (!choice.is_string() || choice.get_ref<const std::string&>().empty()) {
      line.fail("a choice is not a text, or is empty", choice.dump());
    }
    choices.push_back(choice.get<std::string>());
  }
  return choices;
}

std::size_t answer_of(const Json& object, std::size_t choices, const Line& line) {
  if (!object.contains("answer")) line.fail("lacks 'answer'");
  const Json& answer = object["answer"];
  std::int64_t index = -1;
  if (answer.is_number_integer()) {
    index = answer.get<std::int64_t>();
  } else if (answer.is_string() && answer.get_ref<const std::string&>().size() == 1) {
    const char letter = answer.get_ref<const std::string&>()[0];
    if (std::isupper(static_cast<unsigned char>(letter))) index = letter - 'A';
  }
  if (index < 0 || index >= static_cast<std::int64_t>(choices)) {
    line.fail("'answer' is neither an index from 0 nor a letter from A of one of the " +
                  std::to_string(choices) + " choices",
              answer.dump());
  }
  return static_cast<std::size_t>(index);
}

ChoiceTask parse_task(const std::string& text, const Line& line) {
  const Json object = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) line.fail("not a JSON object");
  ChoiceTask task;
  task.context = context_of(object, line);
  task.choices = choices_of(object, line);
  task.answer = answer_of(object, task.choices.size(), line);
  return task;
}

bool is_space(char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; }

// Splits context and choice where the model starts to be judged.
EvalWindow window_of(const std::string& task_context, const std::string& choice,
                     const Tokenizer& tokenizer) {
  std::string context = task_context, rest = choice;
  if (!context.empty() && !is_space(context.back()) && !is_space(rest.front())) rest = " " + rest;
  const auto end = std::find_if_not(context.rbegin(), context.rend(), is_space).base();
  rest.insert(0, std::string(end, context.end()));
  context.erase(end, context.end());

  EvalWindow window;
  window.tokens = tokenizer.encode(context + rest, /*add_special=*/false);
  std::size_t before = tokenizer.encode(context, /*add_special=*/false).size();
  if (tokenizer.adds_bos() || context.empty()) {
    if (!tokenizer.bos()) {
      throw Error(ErrorCode::argument,
                  "a task has an empty context, and this tokenizer no start token to put there");
    }
    window.tokens.insert(window.tokens.begin(), *tokenizer.bos());
    ++before;
  }
  // Where a merge across the border swallowed all of the choice, its last token stands for it.
  window.first = std::max<std::size_t>(1, std::min(before, window.tokens.size() - 1));
  return window;
}

// A window per choice, all tasks one after another, and where each came from.
struct ChoiceWindows {
  std::vector<EvalWindow> windows;
  std::vector<std::size_t> source;  // index of the choice, counted over all tasks
};

ChoiceWindows make_windows(const Tokenizer& tokenizer, const std::vector<ChoiceTask>& tasks) {
  std::vector<EvalWindow> windows;
  for (const ChoiceTask& task : tasks) {
    for (const std::string& choice : task.choices) {
      windows.push_back(window_of(task.context, choice, tokenizer));
    }
  }
  ChoiceWindows sorted;
  sorted.source.resize(windows.size());
  std::iota(sorted.source.begin(), sorted.source.end(), std::size_t{0});
  // Windows that run together should be of similar length; the longest first shows at once whether
  // memory suffices.
  std::stable_sort(sorted.source.begin(), sorted.source.end(), [&](std::size_t a, std::size_t b) {
    return windows[a].tokens.size() > windows[b].tokens.size();
  });
  for (const std::size_t i : sorted.source) sorted.windows.push_back(std::move(windows[i]));
  return sorted;
}

// Log-likelihood of each choice, counted over all tasks.
std::vector<double> log_likelihoods(LanguageModel& model, const ChoiceWindows& choices,
                                    const EvalOptions& options) {
  std::vector<double> sums(choices.windows.size()), tile;
  LanguageModel* models[] = {&model};
  stream_logits(models, choices.windows, options, [&](auto predictions, auto logits) {
    tile.assign(predictions.size(), 0);
    parallel_for(predictions.size(), [&](std::size_t i) {
      const float* row = logits[0].row(i);
      tile[i] = softmax_row(row, logits[0].cols)
                    .log_probability(row[static_cast<std::size_t>(predictions[i].token)]);
    });
    for (std::size_t i = 0; i < tile.size(); ++i) {
      if (!std::isfinite(tile[i])) {
        throw Error(ErrorCode::data, "the model gives a logit that is NaN or infinite in a task");
      }
      sums[choices.source[predictions[i].window]] += tile[i];
    }
  });
  return sums;
}

}  // namespace

std::vector<ChoiceTask> read_choice_tasks(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw Error(ErrorCode::io, "cannot open the file of tasks", {.file = path});
  std::vector<ChoiceTask> tasks;
  std::string text;
  for (std::int64_t number = 1; std::getline(in, text); ++number) {
    if (std::all_of(text.begin(), text.end(), is_space)) continue;
    tasks.push_back(parse_task(text, {path, number}));
  }
  if (in.bad()) throw Error(ErrorCode::io, "cannot read the file of tasks", {.file = path});
  if (tasks.empty()) throw Error(ErrorCode::data, "holds no task", {.file = path});
  return tasks;
}

ChoiceResult evaluate_choices(LanguageModel& model, const Tokenizer& tokenizer,
                              const std::vector<ChoiceTask>& tasks, const EvalOptions& options) {
  const ThreadScope threads(options.threads);
  const auto sums = log_likelihoods(model, make_windows(tokenizer, tasks), options);
  Accumulator plain, normalized;
  auto sum = sums.begin();
  for (const ChoiceTask& task : tasks) {
    const std::vector<double> total(sum, sum + static_cast<std::ptrdiff_t>(task.choices.size()));
    sum += static_cast<std::ptrdiff_t>(task.choices.size());
    std::vector<double> per_byte = total;
    for (std::size_t i = 0; i < total.size(); ++i) {
      per_byte[i] /= static_cast<double>(task.choices[i].size());
    }
    const auto is_right = [&](const std::vector<double>& scores) {
      const auto best = std::max_element(scores.begin(), scores.end()) - scores.begin();
      return static_cast<std::size_t>(best) == task.answer ? 1.0 : 0.0;
    };
    plain.add(is_right(total));
    normalized.add(is_right(per_byte));
  }
  return {plain.count(), plain.estimate(), normalized.estimate()};
}

}  // namespace neap
