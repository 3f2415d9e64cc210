// Claims about neap::Error.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "neap/error.h"

// The statement throws neap::Error with this code, and its line contains `words`.
#define EXPECT_ERROR(statement, error_code, words)                                             \
  do {                                                                                         \
    try {                                                                                      \
      (void)(statement);                                                                       \
      ADD_FAILURE() << "no error; expected one with: " << (words);                             \
    } catch (const ::neap::Error& error) {                                                     \
      EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(error_code)) << error.what(); \
      EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();     \
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();      \
    }                                                                                          \
  } while (0)
