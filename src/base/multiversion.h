// For plain loops: the compiler makes one clone per level and the loader picks. Kernels with
// intrinsics have a file per level and a dispatch of their own instead. Off under sanitizers, whose
// run time is not up yet when the loader picks.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define NEAP_MULTIVERSION __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define NEAP_MULTIVERSION
#endif
