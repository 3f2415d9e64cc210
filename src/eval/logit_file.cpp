#include "eval/logit_file.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "base/parallel.h"
#include "eval/softmax.h"
#include "neap/check.h"
#include "neap/error.h"

namespace neap {
namespace {

constexpr float kRange = 16;          // below the likeliest; what is less likely is taken as that
constexpr float kSteps = 65535;
constexpr std::size_t kRowHeader = 2 * sizeof(float);

template <class T>
void append(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

std::string header_of(const std::vector<EvalWindow>& windows, std::size_t vocabulary) {
  const std::size_t length = windows.front().tokens.size();
  std::string bytes = "_logits_";
  append(bytes, static_cast<std::uint32_t>(length));
  append(bytes, static_cast<std::int32_t>(vocabulary));
  append(bytes, static_cast<std::int32_t>(windows.size()));
  for (const EvalWindow& window : windows) {
    if (window.tokens.size() != length || window.first != length / 2 + 1) {
      throw Error(ErrorCode::argument, "llama.cpp's file of logits holds the second halves of windows of one length",
                  {.expected = "the convention llamacpp"});
    }
    for (const TokenId token : window.tokens) append(bytes, static_cast<std::int32_t>(token));
  }
  return bytes;
}

void put_row(const float* logits, std::size_t vocabulary, std::byte* out) {
  const SoftmaxRow softmax = softmax_row(logits, vocabulary);
  const float least = std::max(*std::min_element(logits, logits + vocabulary), softmax.peak - kRange);
  const float scale = (softmax.peak - least) / kSteps;
  const auto least_log = static_cast<float>(softmax.log_probability(least));
  std::memcpy(out, &scale, sizeof scale);
  std::memcpy(out + sizeof scale, &least_log, sizeof least_log);
  for (std::size_t v = 0; v < vocabulary; ++v) {
    const float steps = scale > 0 ? std::nearbyint(std::max(logits[v] - least, 0.0f) / scale) : 0;
    const auto stored = static_cast<std::uint16_t>(std::min(steps, kSteps));
    std::memcpy(out + kRowHeader + v * sizeof stored, &stored, sizeof stored);
  }
}

}  // namespace

LogitFile::LogitFile(std::string path, const std::vector<EvalWindow>& windows, std::size_t vocabulary)
    : path_(std::move(path)),
      temporary_(path_ + ".partial"),
      row_bytes_(kRowHeader + (vocabulary + 1) / 2 * 2 * sizeof(std::uint16_t)) {
  const std::string header = header_of(windows, vocabulary);
  const std::size_t length = windows.front().tokens.size();
  size_ = header.size() + windows.size() * (length - 1 - length / 2) * row_bytes_;
  ::unlink(temporary_.c_str());  // of a run that was killed
  file_.emplace(temporary_, size_);
  file_->write(0, std::as_bytes(std::span(header)));
  position_ = header.size();
}

LogitFile::~LogitFile() {
  if (file_) ::unlink(temporary_.c_str());
}

void LogitFile::add(MatrixView<const float> logits) {
  std::vector<std::byte> rows(logits.rows * row_bytes_);
  parallel_for(logits.rows, [&](std::size_t r) { put_row(logits.row(r), logits.cols, rows.data() + r * row_bytes_); });
  file_->write(position_, rows);
  position_ += rows.size();
}

void LogitFile::finish() {
  NEAP_CHECK(position_ == size_);
  file_->close();
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) {
    throw Error(ErrorCode::io, std::string("cannot create: ") + std::strerror(errno), {.file = path_});
  }
  file_.reset();
}

}  // namespace neap
