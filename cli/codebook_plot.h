// Codebooks as a picture.
#pragma once

#include <string>

#include "neap/codebooks.h"

namespace neap::cli {

// An SVG of its own: a line per codebook, a tick per entry, weights beside activations.
std::string codebook_plot(const CodebookSet& set);

}  // namespace neap::cli
