#include "linalg/product.h"

#include <cblas.h>

#include <oneapi/dnnl/dnnl.hpp>

#include "base/parallel.h"

namespace neap {
namespace {

dnnl::memory view_of(const dnnl::memory::desc& desc, const dnnl::engine& engine, const void* data) {
  return {desc, engine, const_cast<void*>(data)};  // oneDNN has no read-only memory
}

}  // namespace

bool has_bf16_products() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

void add_transposed_product(MatrixView<const float> a, MatrixView<const float> b,
                            MatrixView<float> c) {
  NEAP_CHECK(a.rows == b.rows && a.cols == c.rows && b.cols == c.cols);
  const ThreadScope serial(1);
  cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, c.rows, c.cols, a.rows, 1, a.data, a.stride,
              b.data, b.stride, 1, c.data, c.stride);
}

void add_transposed_product(MatrixView<const Bf16> a, MatrixView<const Bf16> b,
                            MatrixView<float> c) {
  NEAP_CHECK(a.rows == b.rows && a.cols == c.rows && b.cols == c.cols);
  using dnnl::memory;
  const ThreadScope serial(1);
  const auto dim = [](std::size_t v) { return static_cast<memory::dim>(v); };
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  const memory::desc left({dim(c.rows), dim(a.rows)}, memory::data_type::bf16,
                          memory::dims{1, dim(a.stride)});
  const memory::desc right({dim(b.rows), dim(c.cols)}, memory::data_type::bf16,
                           memory::dims{dim(b.stride), 1});
  const memory::desc sum({dim(c.rows), dim(c.cols)}, memory::data_type::f32,
                         memory::dims{dim(c.stride), 1});
  dnnl::post_ops accumulate;
  accumulate.append_sum(1.0f);
  dnnl::primitive_attr attributes;
  attributes.set_post_ops(accumulate);
  // Cheap from the second time on: oneDNN caches primitives by description.
  const dnnl::matmul product(
      dnnl::matmul::primitive_desc(dnnl::matmul::desc(left, right, sum), attributes, engine));
  dnnl::stream stream(engine);
  product.execute(stream, {{DNNL_ARG_SRC, view_of(left, engine, a.data)},
                           {DNNL_ARG_WEIGHTS, view_of(right, engine, b.data)},
                           {DNNL_ARG_DST, view_of(sum, engine, c.data)}});
  stream.wait();
}

}  // namespace neap
