// config.json to ModelConfig and to NeapConfig. What is accepted has sizes that later code may divide by
// and allocate.
#include "model/config.h"

#include <cstdint>
#include <string_view>

#include "model/neap_config.h"
#include "neap/check.h"
#include "neap/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const neap::ModelConfig config =
        neap::config_from_json({reinterpret_cast<const char*>(data), size}, "fuzz");
    NEAP_CHECK(config.layers > 0 && config.hidden > 0 && config.intermediate > 0);
    NEAP_CHECK(config.vocabulary > 0 && config.head_dim > 0 && config.kv_heads > 0);
    NEAP_CHECK(config.heads % config.kv_heads == 0);
    NEAP_CHECK(config.switches.size() == static_cast<std::size_t>(config.layers));
  } catch (const neap::Error&) {
  }
  try {
    const auto config = neap::NeapConfig::from_config({reinterpret_cast<const char*>(data), size}, "fuzz");
    NEAP_CHECK(!config || (config->layout.valid() && !config->packs("lm_head")));
  } catch (const neap::Error&) {
  }
  return 0;
}
