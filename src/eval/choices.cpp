// Multiple-choice questions by log-likelihood, with the conventions of lm-evaluation-harness (L. Gao et
// al., "The Language Model Evaluation Harness", 2024; its task type multiple_choice).
#include <algorithm>
#include <cctype>
#include <cmath>
#include <fstream>
#include <iterator>
#include <numeric>

#include "base/parallel.h"
#include "eval/logit_stream.h"
#include "eval/softmax.h"
#include "eval/statistics.h"
#include "io/json_lines.h"
#include "io/names.h"
#include "neap/error.h"
#include "neap/eval.h"

namespace neap {
namespace {

std::string context_of(const JsonNode& task) {
  const auto context = task.find("context"), question = task.find("question");
  if (context.has_value() == question.has_value()) task.fail("needs either 'context' or 'question'");
  if (context) return context->string();
  return "Question: " + question->string() + "\nAnswer:";
}

std::vector<std::string> choices_of(const JsonNode& list) {
  if (list.size() < 2) list.fail("too few choices", "two or more texts");
  std::vector<std::string> choices;
  for (std::size_t i = 0; i < list.size(); ++i) {
    choices.push_back(list[i].string());
    if (choices.back().empty()) list[i].fail("empty", "a text");
  }
  return choices;
}

std::size_t answer_of(const JsonNode& answer, std::size_t choices) {
  if (!answer.value().is_string()) {
    return static_cast<std::size_t>(answer.integer(0, static_cast<std::int64_t>(choices) - 1));
  }
  const std::string& letter = answer.string();
  const auto index = static_cast<std::size_t>(letter.empty() ? -1 : letter[0] - 'A');
  if (letter.size() != 1 || index >= choices) {
    answer.fail("not an answer", "an index from 0 or a letter from A of one of the " + std::to_string(choices) + " choices");
  }
  return index;
}

ChoiceTask task_of(const JsonNode& line) {
  ChoiceTask task;
  task.context = context_of(line);
  task.choices = choices_of(line.at("choices"));
  task.answer = answer_of(line.at("answer"), task.choices.size());
  return task;
}

bool is_space(char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; }

// Splits context and choice where the model starts to be judged. Task: its number from 1, for errors.
EvalWindow window_of(const std::string& task_context, const std::string& choice,
                     const Tokenizer& tokenizer, std::size_t task) {
  std::string context = task_context, rest = choice;
  const bool apart = context.empty() || is_space(context.back()) || rest.empty() || is_space(rest.front());
  if (!apart) rest = " " + rest;
  const auto end = std::find_if_not(context.rbegin(), context.rend(), is_space).base();
  rest.insert(0, std::string(end, context.end()));
  context.erase(end, context.end());

  EvalWindow window;
  window.tokens = tokenizer.encode(context + rest, /*add_special=*/false);
  std::size_t before = tokenizer.encode(context, /*add_special=*/false).size();
  // A merge may leave a single token, which nothing stands before that could predict it.
  if (tokenizer.adds_bos() || context.empty() || window.tokens.size() < 2) {
    if (!tokenizer.bos()) {
      throw Error(ErrorCode::data,
                  "task " + std::to_string(task) + ": nothing stands before the choice, and this tokenizer has no start token to put there",
                  {.found = printable(context + rest)});
    }
    window.tokens.insert(window.tokens.begin(), *tokenizer.bos());
    ++before;
  }
  if (window.tokens.size() < 2) {
    throw Error(ErrorCode::data, "task " + std::to_string(task) + ": a choice gives no tokens",
                {.found = printable(context + rest)});
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
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    for (const std::string& choice : tasks[i].choices) {
      windows.push_back(window_of(tasks[i].context, choice, tokenizer, i + 1));
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
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  if (in.bad()) throw Error(ErrorCode::io, "cannot read the file of tasks", {.file = path});
  std::vector<ChoiceTask> tasks;
  for_each_json_line(text, path, [&](const JsonNode& line) { tasks.push_back(task_of(line)); });
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
