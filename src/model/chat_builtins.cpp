#include "model/chat_builtins.h"

#include <algorithm>

#include "model/chat_text.h"
#include "model/utf8.h"

namespace neap {
namespace {

const std::string& text_of(const ChatValue* value, const char* what) {
  if (value == nullptr || value->string() == nullptr) {
    chat_failure(std::string(what) + " of " + (value == nullptr ? "nothing" : value->type()));
  }
  return *value->string();
}

void check_length(std::size_t length) {
  if (length > kLongestChatText) chat_unsupported("a text this long");
}

// Arguments that are not read would be arguments that do nothing.
void check_arguments(const ChatArguments& arguments, std::size_t most,
                     std::initializer_list<const char*> names, const std::string& what) {
  bool known = arguments.positional.size() <= most;
  for (const auto& [name, value] : arguments.named) {
    known = known && std::find(names.begin(), names.end(), name) != names.end();
  }
  if (!known) chat_unsupported("these arguments of " + what);
}

// Python knows the cases of all scripts; here only ASCII.
std::string change_case(const std::string& text, bool upper) {
  std::string out = text;
  for (char& c : out) {
    if (static_cast<unsigned char>(c) >= 0x80)
      chat_unsupported("changing the case of non-ASCII text");
    if (upper ? c >= 'a' && c <= 'z' : c >= 'A' && c <= 'Z') c = static_cast<char>(c ^ 0x20);
  }
  return out;
}

std::string capitalize(const std::string& text) {
  const std::string lower = change_case(text, false);
  return change_case(lower.substr(0, 1), true) + (lower.empty() ? "" : lower.substr(1));
}

std::string replace_text(const std::string& text, const ChatArguments& arguments) {
  const std::string& from = text_of(arguments.find(0, "old"), "replace");
  const std::string& to = text_of(arguments.find(1, "new"), "replace");
  if (from.empty()) chat_unsupported("replacing an empty text");
  check_length(text.size() / from.size() * to.size());
  return python_replace(text, from, to);
}

std::optional<std::string_view> optional_text(const ChatValue* value, const char* what) {
  if (value == nullptr || value->none()) return std::nullopt;
  return text_of(value, what);
}

ChatValue split_text(const std::string& text, const ChatArguments& arguments, ChatWork& work) {
  const auto separator = optional_text(arguments.find(0, "sep"), "split");
  if (separator && separator->empty()) chat_failure("split at nothing");
  const ChatValue* most = arguments.find(1, "maxsplit");
  if (most != nullptr && !most->is<std::int64_t>()) chat_failure("split");
  const std::int64_t asked = most == nullptr ? -1 : *most->get<std::int64_t>();
  constexpr std::int64_t kMost = kLongestChatList;  // one more than fits shows that it does not
  ChatList parts;
  for (std::string& part :
       python_split(text, separator, asked < 0 ? kMost : std::min(asked, kMost))) {
    work.spend_items(4);  // each a value of its own
    parts.emplace_back(std::move(part));
  }
  return parts;
}

ChatValue pairs_of(const ChatMembers& members, ChatWork& work) {
  ChatList pairs;
  for (const auto& [name, value] : members) {
    work.spend(8 * ChatWork::kItem + name.size());
    pairs.emplace_back(ChatList{name, value});
  }
  return pairs;
}

std::int64_t length_of(const ChatValue& value, ChatWork& work) {
  if (value.string() != nullptr)
    return static_cast<std::int64_t>(count_code_points(*value.string()));
  if (value.mapping()) return static_cast<std::int64_t>(value.members()->size());
  if (value.list() != nullptr) return static_cast<std::int64_t>(value.list()->size());
  return static_cast<std::int64_t>(chat_items(value, work).size());
}

std::string join_items(const ChatValue& value, const ChatArguments& arguments, ChatWork& work) {
  check_arguments(arguments, 1, {"d"}, "join");
  const ChatValue* between = arguments.find(0, "d");
  std::string text;
  bool first = true;
  for (const ChatValue& item : chat_items(value, work)) {
    if (!first && between != nullptr) text += between->text();
    first = false;
    text += item.text();
    check_length(text.size());
  }
  return text;
}

// select, reject, selectattr, rejectattr: items for which a test (or truth) holds, or not.
ChatValue select_items(const std::string& name, const ChatValue& value,
                       const ChatArguments& arguments, ChatWork& work) {
  const bool wanted = name.compare(0, 6, "select") == 0;
  const bool attribute = name.size() > 6;
  ChatArguments rest{arguments.positional, {}};
  std::string member, test;
  const auto take = [&](std::string& text) {
    if (rest.positional.empty()) return;
    text = text_of(&rest.positional.front(), name.c_str());
    rest.positional.erase(rest.positional.begin());
  };
  if (attribute) take(member);
  take(test);
  ChatList result;
  if (!value.truth()) return result;  // of none, too
  for (const ChatValue& item : chat_items(value, work)) {
    const ChatValue tested = attribute ? chat_attribute(item, member, work) : item;
    if ((test.empty() ? tested.truth() : apply_chat_test(test, tested, rest, work)) == wanted) {
      result.push_back(item);
    }
  }
  return result;
}

// A map of maps takes one argument more for each.
constexpr std::size_t kMostOfMap = 16;

// map("filter", ..), map(attribute="name", default=..).
ChatValue map_items(const ChatValue& value, const ChatArguments& arguments, ChatWork& work) {
  check_arguments(arguments, kMostOfMap, {"attribute", "default"}, "map");
  ChatList result;
  const ChatValue* attribute = find_member(arguments.named, "attribute");
  const ChatValue* otherwise = find_member(arguments.named, "default");
  if (!value.truth()) return result;  // of none, too
  ChatArguments rest{arguments.positional, {}};
  if (attribute == nullptr && !rest.positional.empty()) rest.positional.erase(rest.positional.begin());
  for (const ChatValue& item : chat_items(value, work)) {
    if (attribute != nullptr) {
      ChatValue member = chat_attribute(item, text_of(attribute, "map"), work);
      result.push_back(member.undefined() && otherwise != nullptr ? *otherwise : std::move(member));
    } else {
      result.push_back(apply_chat_filter(text_of(arguments.find(0, ""), "map"), item, rest, work));
      if (const std::string* text = result.back().string()) work.spend(text->size());
    }
  }
  return result;
}

ChatValue default_value(const ChatValue& value, const ChatArguments& arguments) {
  check_arguments(arguments, 2, {"default_value", "boolean"}, "default");
  const ChatValue* otherwise = arguments.find(0, "default_value");
  const ChatValue* falsy = arguments.find(1, "boolean");
  const bool missing = value.undefined() || (falsy != nullptr && falsy->truth() && !value.truth());
  if (!missing) return value;
  return otherwise != nullptr ? *otherwise : ChatValue("");
}

ChatValue json_of(const ChatValue& value, const ChatArguments& arguments, ChatWork& work) {
  check_arguments(arguments, 0, {"indent", "ensure_ascii"}, "tojson");
  const ChatValue* indent = find_member(arguments.named, "indent");
  const ChatValue* ascii = find_member(arguments.named, "ensure_ascii");
  if (ascii != nullptr && ascii->truth()) chat_unsupported("tojson in ASCII");
  const bool given = indent != nullptr && !indent->none();
  if (given && !indent->is<std::int64_t>()) chat_unsupported("this indentation of tojson");
  return chat_json(
      value, given ? std::clamp<std::int64_t>(*indent->get<std::int64_t>(), 0, 16) : -1, work);
}

// strip, lstrip, rstrip: each character stripped is looked for among all that may be.
ChatValue strip_text(const std::string& text, bool left, bool right, const ChatValue* characters,
                     ChatWork& work) {
  const auto of = optional_text(characters, "strip");
  if (of) work.spend(text.size() * of->size());
  return std::string(python_strip(text, left, right, of));
}

ChatValue text_filter(const std::string& name, const std::string& text,
                      const ChatArguments& arguments, ChatWork& work) {
  if (name == "trim") {
    check_arguments(arguments, 1, {}, name);
    return strip_text(text, true, true, arguments.find(0, ""), work);
  }
  if (name == "replace") {
    check_arguments(arguments, 2, {"old", "new"}, name);
    return replace_text(text, arguments);
  }
  check_arguments(arguments, 0, {}, name);
  if (name == "upper" || name == "lower") return change_case(text, name == "upper");
  return capitalize(text);
}

}  // namespace

ChatValue apply_chat_filter(const std::string& name, const ChatValue& value,
                            const ChatArguments& arguments, ChatWork& work) {
  work.spend(ChatWork::kNode + (value.string() != nullptr ? value.string()->size() : 0));
  if (name == "trim" || name == "replace" || name == "upper" || name == "lower" ||
      name == "capitalize") {
    return text_filter(name, value.text(), arguments, work);
  }
  if (name == "default" || name == "d") return default_value(value, arguments);
  if (name == "join") return join_items(value, arguments, work);
  if (name == "map") return map_items(value, arguments, work);
  if (name == "tojson") return json_of(value, arguments, work);
  if (name == "select" || name == "reject" || name == "selectattr" || name == "rejectattr") {
    return select_items(name, value, arguments, work);
  }
  check_arguments(arguments, 0, {}, name);
  if (name == "length" || name == "count") return length_of(value, work);
  if (name == "string") return value.text();
  if (name == "safe") return value;
  if (name == "list") return chat_items(value, work);
  if (name == "items") {
    return value.mapping() ? pairs_of(*value.members(), work) : ChatValue(ChatList{});
  }
  if (name == "first" || name == "last") {
    const std::int64_t index = name == "first" ? 0 : -1;
    if (value.list() != nullptr) return chat_item(value, index, work);
    return chat_item(chat_items(value, work), index, work);
  }
  chat_unsupported("the filter " + name);
}

bool apply_chat_test(const std::string& name, const ChatValue& value,
                     const ChatArguments& arguments, ChatWork& work) {
  work.spend(ChatWork::kNode + (value.string() != nullptr ? value.string()->size() : 0));
  if (name == "equalto" || name == "eq" || name == "==" || name == "ne" || name == "in") {
    if (arguments.positional.size() != 1) chat_failure("the test " + name);
    const ChatValue& other = arguments.positional.front();
    if (name == "in") return chat_operator("in", value, other, work).truth();
    return chat_equal(value, other, work) != (name == "ne");
  }
  check_arguments(arguments, 0, {}, name);
  if (name == "defined") return !value.undefined();
  if (name == "undefined") return value.undefined();
  if (name == "none") return value.none();
  if (name == "string") return value.string() != nullptr;
  if (name == "boolean") return value.is<bool>();
  if (name == "true" || name == "false")
    return value.is<bool>() && value.truth() == (name == "true");
  if (name == "integer") return value.is<std::int64_t>();
  if (name == "number") return value.is<std::int64_t>() || value.is<double>() || value.is<bool>();
  if (name == "mapping") return value.mapping();
  if (name == "sequence")
    return value.string() != nullptr || value.list() != nullptr || value.mapping();
  if (name == "iterable") {
    return value.string() != nullptr || value.list() != nullptr || value.mapping() ||
           value.undefined();
  }
  if (name == "callable") return value.function() != nullptr;
  if (name == "odd" || name == "even") {
    if (!value.is<std::int64_t>()) chat_failure("the test " + name + " of " + value.type());
    return (*value.get<std::int64_t>() % 2 != 0) == (name == "odd");
  }
  chat_unsupported("the test " + name);
}

bool has_chat_method(const ChatValue& object, const std::string& name) {
  const auto is = [&](std::initializer_list<const char*> names) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  if (object.string() != nullptr) {
    return is({"strip", "lstrip", "rstrip", "split", "replace", "startswith", "endswith", "upper",
               "lower", "capitalize"});
  }
  return object.mapping() && is({"get", "items", "keys", "values"});
}

ChatValue call_chat_method(const ChatValue& object, const std::string& name,
                           const ChatArguments& arguments, ChatWork& work) {
  if (object.mapping()) {
    if (name == "get") {
      check_arguments(arguments, 2, {}, name);
      work.spend(object.members()->size());
      const ChatValue* found =
          find_member(*object.members(), text_of(arguments.find(0, ""), "get"));
      const ChatValue* otherwise = arguments.find(1, "");
      if (found != nullptr) return *found;
      return otherwise != nullptr ? *otherwise : ChatValue(ChatNone{});
    }
    check_arguments(arguments, 0, {}, name);
    if (name == "items") return pairs_of(*object.members(), work);
    if (name == "keys") return chat_items(object, work);
    work.spend_items(object.members()->size());
    ChatList list;
    for (const auto& [key, value] : *object.members()) list.push_back(value);
    return list;
  }
  const std::string& text = text_of(&object, name.c_str());
  if (name == "split") {
    check_arguments(arguments, 2, {"sep", "maxsplit"}, name);
    return split_text(text, arguments, work);
  }
  if (name == "replace" || name == "upper" || name == "lower" || name == "capitalize") {
    return text_filter(name, text, arguments, work);
  }
  check_arguments(arguments, 1, {}, name);
  if (name == "startswith" || name == "endswith") {
    const std::string& part = text_of(arguments.find(0, ""), name.c_str());
    return name == "startswith" ? text.starts_with(part) : text.ends_with(part);
  }
  return strip_text(text, name != "rstrip", name != "lstrip", arguments.find(0, ""), work);
}

}  // namespace neap
