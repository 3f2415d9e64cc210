#include "neap/error.h"

#include <gtest/gtest.h>

namespace neap {
namespace {

TEST(Error, SaysFileTensorOffsetExpectedAndFoundInOneLine) {
  const Error error(ErrorCode::format, "data ends early",
                    {.file = "m.safetensors", .tensor = "a.weight", .offset = 12, .expected = "8 bytes", .found = "3"});
  EXPECT_STREQ(error.what(),
               "m.safetensors: 'a.weight': offset 12: data ends early (expected 8 bytes, found 3)");
}

TEST(Error, LeavesOutWhatIsUnknown) {
  EXPECT_STREQ(Error(ErrorCode::argument, "no such scheme").what(), "no such scheme");
}

}  // namespace
}  // namespace neap
