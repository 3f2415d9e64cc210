// What the machine can do at most, measured: the yardstick for everything that claims to be fast.
// On as many threads as parallel_for would use now.
#pragma once

#include "neap/bench.h"

namespace neap {

// Seconds since some moment.
using Clock = double (*)();
double wall_clock();

// Multiplications and additions a second (each counts as one) in oneDNN's own product of two large
// square matrices, both in the layouts that it likes best: the best of some runs, about half a
// second. int8 is unsigned by signed into 32 bits.
double measure_products(Arithmetic arithmetic, Clock clock = wall_clock);

// Bytes a second that all threads together read from memory, one after another, from far more of it
// than caches hold: the best of some passes, about a quarter of a second.
double measure_reading(Clock clock = wall_clock);

}  // namespace neap
