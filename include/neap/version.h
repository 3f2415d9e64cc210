// Which Neap this is.
#pragma once

namespace neap {

const char* version();  // "0.1.0"

}  // namespace neap
