#include <algorithm>

#include "model/chat_builtins.h"
#include "model/chat_text.h"

namespace neap {
namespace {

[[noreturn]] void bad_operands(const std::string& name, const ChatValue& left,
                               const ChatValue& right) {
  chat_failure(std::string(left.type()) + " " + name + " " + right.type());
}

std::int64_t python_floor_divide(std::int64_t a, std::int64_t b) {
  return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
}

ChatValue integer_operator(const std::string& name, std::int64_t a, std::int64_t b) {
  constexpr std::int64_t kLimit = std::int64_t{1} << 31;  // far from any overflow
  if (a <= -kLimit || a >= kLimit || b <= -kLimit || b >= kLimit) chat_unsupported("large numbers");
  if (name == "+") return a + b;
  if (name == "-") return a - b;
  if (name == "*") return a * b;
  if (b == 0) chat_failure("division by zero");
  if (name == "/") return static_cast<double>(a) / static_cast<double>(b);
  if (name == "//") return python_floor_divide(a, b);
  return a - b * python_floor_divide(a, b);
}

ChatValue arithmetic(const std::string& name, const ChatValue& left, const ChatValue& right) {
  const auto *a = left.get<std::int64_t>(), *b = right.get<std::int64_t>();
  if (a != nullptr && b != nullptr) return integer_operator(name, *a, *b);
  if (left.undefined() || right.undefined()) {
    const ChatValue& which = left.undefined() ? left : right;
    chat_failure("'" + which.get<ChatUndefined>()->name + "' is undefined");
  }
  if (name == "+" && left.string() != nullptr && right.string() != nullptr) {
    return *left.string() + *right.string();
  }
  if (name == "+" && left.list() != nullptr && right.list() != nullptr) {
    ChatList joined = *left.list();
    joined.insert(joined.end(), right.list()->begin(), right.list()->end());
    return joined;
  }
  if (name == "*" && left.string() != nullptr && b != nullptr) {
    const auto count = static_cast<std::size_t>(std::max<std::int64_t>(*b, 0));
    if (left.string()->size() * std::min(count, kLongestChatText) > kLongestChatText) {
      chat_unsupported("a text this long");
    }
    std::string text;
    for (std::size_t i = 0; i < count && !left.string()->empty(); ++i) text += *left.string();
    return text;
  }
  const bool real = left.is<double>() || right.is<double>() || left.is<bool>() || right.is<bool>();
  if (real || (left.string() != nullptr && name == "%")) {
    chat_unsupported(std::string(left.type()) + " " + name + " " + right.type());
  }
  bad_operands(name, left, right);
}

bool less(const std::string& name, const ChatValue& left, const ChatValue& right) {
  const auto *a = left.get<std::int64_t>(), *b = right.get<std::int64_t>();
  if (a != nullptr && b != nullptr) return *a < *b;
  // The order of UTF-8 is that of code points.
  if (left.string() != nullptr && right.string() != nullptr)
    return *left.string() < *right.string();
  if (left.is<double>() || right.is<double>() || left.is<bool>() || right.is<bool>()) {
    chat_unsupported("comparing numbers that are no integers");
  }
  bad_operands(name, left, right);
}

bool contains(const ChatValue& container, const ChatValue& value) {
  if (container.string() != nullptr) {
    if (value.string() == nullptr) bad_operands("in", value, container);
    return container.string()->find(*value.string()) != std::string::npos;
  }
  if (container.mapping()) {
    return value.string() != nullptr &&
           find_member(*container.members(), *value.string()) != nullptr;
  }
  const ChatList items = chat_items(container);
  return std::find(items.begin(), items.end(), value) != items.end();
}

// Python's slice indices, for a sequence of `size`.
std::vector<std::size_t> slice_indices(std::size_t size, const ChatValue& from, const ChatValue& to,
                                       const ChatValue& step_value) {
  const auto bound = [&](const ChatValue& value, std::int64_t otherwise) {
    if (value.none()) return otherwise;
    if (!value.is<std::int64_t>())
      chat_failure(std::string("a slice bound of type ") + value.type());
    return *value.get<std::int64_t>();
  };
  const auto n = static_cast<std::int64_t>(size);
  const std::int64_t step = bound(step_value, 1);
  if (step == 0) chat_failure("a slice step of zero");
  const auto clamp = [&](std::int64_t i) {
    if (i < 0) i = std::max(i + n, std::int64_t{-1} - (step > 0 ? -1 : 0));
    return step > 0 ? std::clamp<std::int64_t>(i, 0, n) : std::clamp<std::int64_t>(i, -1, n - 1);
  };
  const std::int64_t begin = from.none() ? (step > 0 ? 0 : n - 1) : clamp(bound(from, 0));
  const std::int64_t end = to.none() ? (step > 0 ? n : -1) : clamp(bound(to, 0));
  std::vector<std::size_t> indices;
  for (std::int64_t i = begin; step > 0 ? i < end : i > end;) {
    indices.push_back(static_cast<std::size_t>(i));
    if (step > n || step < -n) break;
    i += step;
  }
  return indices;
}

// A negative index counts from the end; nothing when out of range.
template <class Items>
const typename Items::value_type* at(const Items& items, std::int64_t index) {
  const auto size = static_cast<std::int64_t>(items.size());
  if (index < -size || index >= size) return nullptr;
  return &items[static_cast<std::size_t>(index < 0 ? index + size : index)];
}

}  // namespace

ChatValue chat_operator(const std::string& name, const ChatValue& left, const ChatValue& right) {
  if (name == "==") return left == right;
  if (name == "!=") return !(left == right);
  if (name == "in") return contains(right, left);
  if (name == "not in") return !contains(right, left);
  if (name == "<") return less(name, left, right);
  if (name == ">") return less(name, right, left);
  if (name == "<=") return !less(name, right, left);
  if (name == ">=") return !less(name, left, right);
  if (name == "~") return left.text() + right.text();
  return arithmetic(name, left, right);
}

ChatValue chat_attribute(const ChatValue& object, const std::string& name) {
  if (object.undefined()) {
    chat_failure("'" + object.get<ChatUndefined>()->name + "' is undefined, and so has no '" +
                 name + "'");
  }
  if (object.members() != nullptr) {
    if (const ChatValue* found = find_member(*object.members(), name)) return *found;
  }
  return ChatValue(ChatUndefined{name});
}

ChatValue chat_item(const ChatValue& object, const ChatValue& index) {
  if (index.string() != nullptr) return chat_attribute(object, *index.string());
  if (object.undefined()) chat_attribute(object, index.text());
  const auto* number = index.get<std::int64_t>();
  if (number != nullptr && object.list() != nullptr) {
    if (const ChatValue* found = at(*object.list(), *number)) return *found;
  }
  if (number != nullptr && object.string() != nullptr) {
    const std::vector<std::string> characters = characters_of(*object.string());
    if (const std::string* found = at(characters, *number)) return *found;
  }
  return ChatValue(ChatUndefined{"an item"});
}

ChatValue chat_slice(const ChatValue& object, const ChatValue& from, const ChatValue& to,
                     const ChatValue& step) {
  if (object.list() != nullptr) {
    ChatList part;
    for (const std::size_t i : slice_indices(object.list()->size(), from, to, step)) {
      part.push_back((*object.list())[i]);
    }
    return part;
  }
  if (object.string() == nullptr) chat_failure(std::string("a slice of ") + object.type());
  const std::vector<std::string> characters = characters_of(*object.string());
  std::string part;
  for (const std::size_t i : slice_indices(characters.size(), from, to, step))
    part += characters[i];
  return part;
}

ChatList chat_items(const ChatValue& value) {
  ChatList items;
  if (value.list() != nullptr) return *value.list();
  if (value.string() != nullptr) {
    for (std::string& character : characters_of(*value.string()))
      items.emplace_back(std::move(character));
  } else if (value.mapping()) {
    for (const auto& member : *value.members()) items.emplace_back(member.first);
  } else if (!value.undefined()) {
    chat_failure(std::string("going over ") + value.type());
  }
  return items;
}

}  // namespace neap
