// A broken invariant is a bug in Neap: say where and abort. Never for bad input (that is neap::Error).
#pragma once

#include <cstdio>
#include <cstdlib>

#define NEAP_CHECK(condition)                                                                  \
  do {                                                                                         \
    if (!(condition)) {                                                                        \
      std::fprintf(stderr, "%s:%d: invariant broken: %s\n", __FILE__, __LINE__, #condition);   \
      std::abort();                                                                            \
    }                                                                                          \
  } while (0)
