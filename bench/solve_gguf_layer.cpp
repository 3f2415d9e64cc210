// One layer by the solver, from raw files into raw files; bench/gguf_layers.py judges what comes out.
//
//   solve_gguf_layer H W INPUTS FOLDER TYPE...
//
// H: (INPUTS, INPUTS), W: (rows, INPUTS), fp32. Writes FOLDER/TYPE.f32, the weight as a GGUF of that type holds it.
// Options are the defaults of `neap quantize`, but for the target, which is W. Threads: OMP_NUM_THREADS.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <variant>

#include "base/random.h"
#include "neap/check.h"
#include "quantize/gguf.h"

namespace neap {
namespace {

const std::map<std::string, DType> kTypes = {
    {"Q4_0", DType::q4_0}, {"Q4_1", DType::q4_1}, {"Q5_0", DType::q5_0}, {"Q5_1", DType::q5_1}, {"IQ4_NL", DType::iq4_nl},
    {"Q2_K", DType::q2_k}, {"Q3_K", DType::q3_k}, {"Q4_K", DType::q4_k}, {"Q5_K", DType::q5_k}, {"Q6_K", DType::q6_k}};

Matrix<float> read(const std::filesystem::path& path, std::size_t cols) {
  const std::size_t bytes = std::filesystem::file_size(path);
  Matrix<float> matrix = Matrix<float>::unset(bytes / (cols * sizeof(float)), cols);
  std::ifstream file(path, std::ios::binary);
  file.exceptions(std::ios::failbit | std::ios::badbit);
  file.read(reinterpret_cast<char*>(matrix.data()), static_cast<std::streamsize>(bytes));
  return matrix;
}

void write(const std::filesystem::path& path, const Matrix<float>& matrix) {
  std::ofstream file(path, std::ios::binary);
  file.exceptions(std::ios::failbit | std::ios::badbit);
  const std::size_t bytes = matrix.rows() * matrix.cols() * sizeof(float);
  file.write(reinterpret_cast<const char*>(matrix.data()), static_cast<std::streamsize>(bytes));
}

LayerSystem system_of(const std::filesystem::path& gram, std::size_t inputs) {
  const Matrix<float> h = read(gram, inputs);
  NEAP_CHECK(h.rows() == inputs);
  return LayerSystem(h, {}, {.target_mix = 1});
}

void run(int count, char** words) {
  const std::size_t inputs = std::strtoul(words[3], nullptr, 10);
  const LayerSystem system = system_of(words[1], inputs);
  const Matrix<float> weight = read(words[2], inputs);
  for (int i = 5; i < count; ++i) {
    const GgufSolution solution = solve_gguf(system, weight, {kTypes.at(words[i])}, {}, stream_key(42, words[i]));
    Matrix<float> values(weight.rows(), inputs);
    dequantize(std::get<GgufTensor>(solution.tensor), 0, weight.rows(), values);
    write(std::filesystem::path(words[4]) / (std::string(words[i]) + ".f32"), values);
    std::printf("%s: objective %.6g, relative error %.6g\n", words[i], solution.report.objective_descent,
                solution.report.relative_error);
  }
}

}  // namespace
}  // namespace neap

int main(int count, char** words) {
  if (count < 6) {
    std::fprintf(stderr, "usage: solve_gguf_layer H W INPUTS FOLDER TYPE...\n");
    return 2;
  }
  try {
    neap::run(count, words);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
