#include "base/isa.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "neap/error.h"

namespace neap {
namespace {

TEST(Isa, SupportedLevelsAscendFromScalar) {
  const auto isas = supported_isas();
  ASSERT_FALSE(isas.empty());
  EXPECT_EQ(isas.front(), Isa::scalar);
  EXPECT_TRUE(std::is_sorted(isas.begin(), isas.end()));
  EXPECT_NE(std::ranges::find(isas, default_isa()), isas.end());
}

TEST(Isa, NamesComeBackAsLevels) {
  for (const Isa isa : supported_isas()) EXPECT_EQ(isa_from_name(name_of(isa)), isa);
}

TEST(Isa, AnUnknownNameIsAnErrorThatListsTheNames) {
  try {
    isa_from_name("sse9");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::argument);
    EXPECT_NE(std::string(error.what()).find("scalar, avx2, avx512, avx512bf16"),
              std::string::npos);
  }
}

TEST(Isa, ALevelThatCannotRunIsAnErrorThatListsWhatCan) {
  for (const Isa isa : {Isa::avx2, Isa::avx512, Isa::avx512bf16}) {
    if (std::ranges::find(supported_isas(), isa) != supported_isas().end()) continue;
    try {
      isa_from_name(name_of(isa));
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::unsupported);
    }
  }
}

}  // namespace
}  // namespace neap
