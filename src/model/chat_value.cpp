#include "model/chat_value.h"

#include <algorithm>
#include <optional>

#include "model/chat_work.h"
#include "neap/error.h"

namespace neap {
namespace {

class JsonWriter {
 public:
  JsonWriter(std::int64_t indent, ChatWork& work) : indent_(indent), work_(work) {}

  std::string take() { return std::move(out_); }

  void value(const ChatValue& v, int depth) {
    work_.spend_items(1);
    if (v.none()) return put("null");
    if (const bool* b = v.get<bool>()) return put(*b ? "true" : "false");
    if (const std::int64_t* i = v.get<std::int64_t>()) return put(std::to_string(*i));
    if (v.string() != nullptr) return quoted(*v.string());
    if (v.list() != nullptr) {
      return block('[', ']', *v.list(), depth,
                   [&](const ChatValue& item) { value(item, depth + 1); });
    }
    if (v.mapping()) {
      return block('{', '}', *v.members(), depth, [&](const auto& member) {
        quoted(member.first);
        put(": ");
        value(member.second, depth + 1);
      });
    }
    chat_unsupported(std::string("JSON of a value of type ") + v.type());
  }

 private:
  void put(std::string_view text) {
    if (out_.size() + text.size() > kLongestChatText) chat_unsupported("a text this long");
    work_.spend(text.size());
    out_ += text;
  }

  void quoted(std::string_view text) {
    put("\"");
    for (std::size_t i = 0; i < text.size(); ++i) put(escaped(text.substr(i, 1)));
    put("\"");
  }

  // One byte as it stands in a text; valid up to the next call.
  std::string_view escaped(std::string_view byte) {
    static const char* const kHex = "0123456789abcdef";
    switch (const char c = byte[0]) {
      case '"':
        return "\\\"";
      case '\\':
        return "\\\\";
      case '\n':
        return "\\n";
      case '\r':
        return "\\r";
      case '\t':
        return "\\t";
      case '\b':
        return "\\b";
      case '\f':
        return "\\f";
      default:
        if (static_cast<unsigned char>(c) >= 0x20) return byte;
        code_ = std::string("\\u00").append(1, kHex[c >> 4]).append(1, kHex[c & 15]);
        return code_;
    }
  }

  template <class Items, class Write>
  void block(char open, char close, const Items& items, int depth, const Write& write) {
    put({&open, 1});
    const char* separator = "";
    for (const auto& item : items) {
      put(separator);
      line(depth + 1);
      write(item);
      separator = indent_ < 0 ? ", " : ",";
    }
    if (!items.empty()) line(depth);
    put({&close, 1});
  }
  void line(int depth) {
    if (indent_ >= 0) put(std::string(1, '\n').append(static_cast<std::size_t>(indent_ * depth), ' '));
  }

  std::int64_t indent_;
  ChatWork& work_;
  std::string out_, code_;
};

void check_size(std::size_t items) {
  if (items > kLongestChatList) chat_unsupported("a list or mapping this long");
}

int check_depth(int depth) {
  if (depth > kDeepestChatValue) chat_unsupported("values nested this deep");
  return depth;
}

bool equal_lists(const ChatList& a, const ChatList& b, ChatWork& work) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!chat_equal(a[i], b[i], work)) return false;
  }
  return true;
}

bool equal_mappings(const ChatMembers& a, const ChatMembers& b, ChatWork& work) {
  if (a.size() != b.size()) return false;
  for (const auto& [name, value] : a) {
    work.spend(b.size());
    const ChatValue* other = find_member(b, name);
    if (other == nullptr || !chat_equal(value, *other, work)) return false;
  }
  return true;
}

}  // namespace

ChatValue::ChatValue(std::string value) {
  if (value.size() > kLongestChatText) chat_unsupported("a text this long");
  data_ = std::make_shared<const std::string>(std::move(value));
}

ChatValue::ChatValue(ChatList value) {
  check_size(value.size());
  for (const ChatValue& item : value) depth_ = std::max(depth_, item.depth_);
  depth_ = check_depth(depth_ + 1);
  data_ = std::make_shared<const ChatList>(std::move(value));
}

ChatValue::ChatValue(ChatMembers value) {
  check_size(value.size());
  for (const auto& [name, member] : value) depth_ = std::max(depth_, member.depth_);
  depth_ = check_depth(depth_ + 1);
  data_ = std::make_shared<const ChatMembers>(std::move(value));
}

const std::string* ChatValue::string() const {
  const auto* shared = get<std::shared_ptr<const std::string>>();
  return shared != nullptr ? shared->get() : nullptr;
}

const ChatValue* ChatArguments::find(std::size_t position, std::string_view name) const {
  return position < positional.size() ? &positional[position] : find_member(named, name);
}

const ChatList* ChatValue::list() const {
  const auto* shared = get<std::shared_ptr<const ChatList>>();
  return shared != nullptr ? shared->get() : nullptr;
}

const ChatMembers* ChatValue::members() const {
  if (const auto* space = get<ChatNamespace>()) return space->members;
  const auto* shared = get<std::shared_ptr<const ChatMembers>>();
  return shared != nullptr ? shared->get() : nullptr;
}

const ChatFunction* ChatValue::function() const {
  const auto* shared = get<std::shared_ptr<const ChatFunction>>();
  return shared != nullptr ? shared->get() : nullptr;
}

const char* ChatValue::type() const {
  static const char* const kNames[] = {"undefined", "None", "bool", "int",       "float",
                                       "str",       "list", "dict", "namespace", "function"};
  return kNames[data_.index()];
}

bool ChatValue::truth() const {
  if (undefined() || none()) return false;
  if (const bool* b = get<bool>()) return *b;
  if (const std::int64_t* i = get<std::int64_t>()) return *i != 0;
  if (const double* d = get<double>()) return *d != 0;
  if (string() != nullptr) return !string()->empty();
  if (list() != nullptr) return !list()->empty();
  return !mapping() || !members()->empty();
}

std::string ChatValue::text() const {
  if (undefined()) return "";
  if (none()) return "None";
  if (const bool* b = get<bool>()) return *b ? "True" : "False";
  if (const std::int64_t* i = get<std::int64_t>()) return std::to_string(*i);
  if (string() != nullptr) return *string();
  chat_unsupported(std::string("printing a value of type ") + type());
}

bool chat_equal(const ChatValue& a, const ChatValue& b, ChatWork& work) {
  work.spend_items(1);
  const auto number = [](const ChatValue& v) -> std::optional<double> {
    if (const bool* flag = v.get<bool>()) return *flag ? 1 : 0;
    if (const std::int64_t* i = v.get<std::int64_t>()) return static_cast<double>(*i);
    if (const double* d = v.get<double>()) return *d;
    return std::nullopt;
  };
  if (const auto left = number(a)) return left == number(b);
  if (a.string() != nullptr) {
    work.spend(a.string()->size());
    return b.string() != nullptr && *a.string() == *b.string();
  }
  if (a.list() != nullptr) return b.list() != nullptr && equal_lists(*a.list(), *b.list(), work);
  if (a.mapping()) return b.mapping() && equal_mappings(*a.members(), *b.members(), work);
  return (a.none() && b.none()) || (a.undefined() && b.undefined());
}

const ChatValue* find_member(const ChatMembers& members, std::string_view name) {
  for (const auto& member : members) {
    if (member.first == name) return &member.second;
  }
  return nullptr;
}

std::string chat_json(const ChatValue& value, std::int64_t indent, ChatWork& work) {
  JsonWriter writer(indent, work);
  writer.value(value, 0);
  return writer.take();
}

void chat_unsupported(const std::string& what) {
  throw Error(ErrorCode::unsupported,
              "the chat template uses what is not implemented here: " + what);
}

void chat_failure(const std::string& what) {
  throw Error(ErrorCode::data, "the chat template does not take this conversation: " + what);
}

}  // namespace neap
