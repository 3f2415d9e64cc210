#include "neap/codebooks.h"
#include "neap/error.h"

namespace neap {

CodebookSet universal_codebooks(const LobcqLayout& layout) {
  require_valid(layout);
  throw Error(ErrorCode::argument, "no universal codebooks yet");
}

}  // namespace neap
