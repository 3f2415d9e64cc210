#include <xxhash.h>

#include <algorithm>

#include "base/random.h"
#include "neap/calibration.h"
#include "neap/error.h"
#include "neap/generate.h"

namespace neap {
namespace {

TokenId start_token(const Tokenizer& tokenizer) {
  if (tokenizer.bos()) return *tokenizer.bos();
  if (!tokenizer.eos().empty()) return tokenizer.eos().front();
  throw Error(ErrorCode::data, "the tokenizer has no start token to write from; give --calib FILE");
}

}  // namespace

TokenWindows write_windows(LanguageModel& model, const Tokenizer& tokenizer, SelfTextPart part,
                           std::int64_t samples, std::int64_t length, std::uint64_t seed,
                           const ProgressCallback& progress, int threads) {
  const bool calibration = part == SelfTextPart::calibration;
  const std::string name = calibration ? "written by the model (calibration)"
                                       : "written by the model (evaluation)";
  const TokenId start = start_token(tokenizer);
  const auto count = static_cast<std::size_t>(samples);
  const std::vector<TokenId> prompts(count, start);
  SampleOptions options;
  options.max_tokens = length - 1;
  options.temperature = 1;
  options.threads = threads;
  options.seed = stream_key(seed, calibration ? "calibration" : "evaluation");
  const auto on_step = [&](std::int64_t step) {
    return !progress || progress({.stage = name, .done = step, .total = length - 1});
  };
  const auto ids = generate_batch(model, prompts, count, options, on_step);

  TokenWindows result;
  for (std::size_t s = 0; s < count; ++s) {
    std::vector<TokenId> window = {start};
    const auto first = ids.begin() + static_cast<std::ptrdiff_t>(s) * (length - 1);
    window.insert(window.end(), first, first + (length - 1));
    result.windows.push_back(std::move(window));
  }
  result.sources.push_back({name, "", result.tokens()});
  return result;
}

}  // namespace neap
