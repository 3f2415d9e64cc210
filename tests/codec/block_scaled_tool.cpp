// Rounds numbers to a block-scaled format, for judges in other languages:
//
//   block_scaled_tool weights|inputs FORMAT GROUP ROWS COLS [GLOBAL_SCALE]  <values.f32 >decoded.f32
//
// FORMAT is NVFP4, MXFP4 or INT4. weights: scales as they are stored (INT4's as BF16), NVFP4's global scale
// that of the largest value. inputs: every row a token; without GLOBAL_SCALE NVFP4's is the row's own.
#include <cstdio>
#include <string>
#include <vector>

#include "codec/block_scaled.h"
#include "codec/fp4.h"
#include "codec/lobcq_encode.h"
#include "neap/error.h"

namespace neap {
namespace {

BlockScaled format_of(const std::string& name) {
  for (const BlockScaled format : {BlockScaled::nvfp4, BlockScaled::mxfp4, BlockScaled::int4}) {
    if (name == name_of(format)) return format;
  }
  throw Error(ErrorCode::argument, "no such format", {.found = name});
}

void round_weights(BlockScaled format, std::int64_t group, Matrix<float>& values) {
  const auto rows = static_cast<std::int64_t>(values.rows());
  if (format == BlockScaled::int4) {
    dequantize(round_to_int4(values, {.bits = 4, .group = group, .symmetric = true, .scale_type = DType::bf16}), 0, rows,
               values);
    return;
  }
  const float global_scale = format == BlockScaled::nvfp4 ? global_scale_of_maximum(largest_magnitude(values)) : 1;
  dequantize(round_to_fp4(values, Fp4Layout{format}, global_scale), 0, rows, values);
}

int run(const std::vector<std::string>& arguments) {
  const BlockScaled format = format_of(arguments.at(1));
  const std::int64_t group = std::stoll(arguments.at(2));
  Matrix<float> values(std::stoull(arguments.at(3)), std::stoull(arguments.at(4)));
  const std::size_t count = values.rows() * values.cols();
  if (std::fread(values.data(), sizeof(float), count, stdin) != count)
    throw Error(ErrorCode::io, "too few values");
  if (arguments.at(0) == "weights") {
    round_weights(format, group, values);
  } else {
    BlockScaledInputs inputs{format, group};
    if (arguments.size() > 5) inputs.global_scale = std::stof(arguments[5]);
    round_block_scaled(inputs, values, values);
  }
  return std::fwrite(values.data(), sizeof(float), count, stdout) == count ? 0 : 1;
}

}  // namespace
}  // namespace neap

int main(int argc, char** argv) {
  try {
    return neap::run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
