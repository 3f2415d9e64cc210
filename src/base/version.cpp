#include "neap/version.h"

namespace neap {

const char* version() { return NEAP_VERSION; }

}  // namespace neap
