#include "kernels/fp4_packed.h"

#include <algorithm>
#include <cstring>

#include "base/parallel.h"

namespace neap {
namespace {

Fp4Shape make_shape(const Fp4Tensor& tensor) {
  Fp4Shape shape{};
  shape.groups = static_cast<std::size_t>(tensor.layout.groups(tensor.cols));
  shape.group = static_cast<std::size_t>(tensor.layout.group());
  const std::size_t group_bytes = shape.group / 8 * kVectorBytes;
  shape.stripe_bytes = kVectorBytes + kStripeGroups * group_bytes;
  const std::size_t stripes = (shape.groups + kStripeGroups - 1) / kStripeGroups;
  shape.panel_bytes = stripes * kVectorBytes + shape.groups * group_bytes;
  shape.power = tensor.layout.format == BlockScaled::mxfp4;
  shape.global_scale = tensor.global_scale;
  return shape;
}

}  // namespace

PackedFp4::PackedFp4(const Fp4Tensor& tensor)
    : rows_(static_cast<std::size_t>(tensor.rows)),
      cols_(static_cast<std::size_t>(tensor.cols)),
      shape_(make_shape(tensor)),
      memory_(bytes()) {
  parallel_for(panels(), [&](std::size_t index) { pack(tensor, index); });
}

void PackedFp4::pack(const Fp4Tensor& tensor, std::size_t panel) {
  std::uint8_t* to = data() + panel * shape_.panel_bytes;
  for (std::size_t lane = 0; lane < std::min(kPanelRows, rows_ - panel * kPanelRows); ++lane) {
    const std::size_t row = panel * kPanelRows + lane;
    for (std::size_t g = 0; g < shape_.groups; ++g) {
      to[g / kStripeGroups * shape_.stripe_bytes + 4 * lane + g % kStripeGroups] =
          tensor.scales[row * shape_.groups + g];
      std::uint8_t* codes = to + codes_at(shape_, g) + 4 * lane;
      for (std::size_t c = 0; c < shape_.group; c += 8, codes += kVectorBytes) {
        std::uint64_t eight;
        std::memcpy(&eight, tensor.codes.data() + row * cols_ + g * shape_.group + c, sizeof eight);
        const auto bytes = static_cast<std::uint32_t>(eight | eight >> 28);
        std::memcpy(codes, &bytes, sizeof bytes);
      }
    }
  }
}

}  // namespace neap
