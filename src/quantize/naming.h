// Whose the rows and columns are that a tensor's errors name.
#pragma once

#include <string>

#include "neap/error.h"

namespace neap {

// What `work` returns; an Error of its that names no tensor gets the module's weight before its line.
template <class Work>
auto naming(const std::string& module, Work&& work) {
  try {
    return work();
  } catch (const Error& e) {
    if (!e.context().tensor.empty()) throw;
    throw Error(e.code(), module + ".weight: " + e.what());
  }
}

}  // namespace neap
