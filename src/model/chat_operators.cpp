#include <algorithm>

#include "model/chat_builtins.h"
#include "model/chat_text.h"
#include "model/utf8.h"

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

ChatValue arithmetic(const std::string& name, const ChatValue& left, const ChatValue& right,
                     ChatWork& work) {
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
    work.spend_items(left.list()->size() + right.list()->size());
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

bool contains(const ChatValue& container, const ChatValue& value, ChatWork& work) {
  if (container.string() != nullptr) {
    if (value.string() == nullptr) bad_operands("in", value, container);
    work.spend(container.string()->size());  // a list's items may all be looked for in one text
    return find_text(*container.string(), *value.string()) != std::string::npos;
  }
  if (container.mapping()) {
    work.spend(container.members()->size());
    return value.string() != nullptr &&
           find_member(*container.members(), *value.string()) != nullptr;
  }
  const auto is_value = [&](const ChatValue& item) { return chat_equal(item, value, work); };
  const ChatList* list = container.list();
  const ChatList items = list != nullptr ? ChatList{} : chat_items(container, work);
  return std::ranges::any_of(list != nullptr ? *list : items, is_value);
}

// begin, begin + step, ...: count indices.
struct Slice {
  std::int64_t begin = 0, step = 1, count = 0;
  std::size_t operator[](std::int64_t i) const { return static_cast<std::size_t>(begin + i * step); }
};

// Python's slice, of a sequence of `size`.
Slice slice_of(std::size_t size, const ChatValue& from, const ChatValue& to,
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
  const std::int64_t length = step > 0 ? end - begin : begin - end;
  return {begin, step, length <= 0 ? 0 : (length - 1) / (step > 0 ? step : -step) + 1};
}

std::string slice_text(const std::string& text, const ChatValue& from, const ChatValue& to,
                       const ChatValue& step, ChatWork& work) {
  work.spend(4 * text.size());
  std::vector<std::uint32_t> starts;  // of characters
  for (std::size_t at = 0; at < text.size(); at += code_point_at(text, at).bytes) {
    starts.push_back(static_cast<std::uint32_t>(at));
  }
  const Slice slice = slice_of(starts.size(), from, to, step);
  std::string part;
  for (std::int64_t i = 0; i < slice.count; ++i) {
    const std::size_t at = starts[slice[i]];
    part.append(text, at, code_point_at(text, at).bytes);
  }
  return part;
}

// A negative index counts from the end; nothing when out of range.
template <class Items>
const typename Items::value_type* at(const Items& items, std::int64_t index) {
  const auto size = static_cast<std::int64_t>(items.size());
  if (index < -size || index >= size) return nullptr;
  return &items[static_cast<std::size_t>(index < 0 ? index + size : index)];
}

}  // namespace

ChatValue chat_operator(const std::string& name, const ChatValue& left, const ChatValue& right,
                        ChatWork& work) {
  if (name == "==") return chat_equal(left, right, work);
  if (name == "!=") return !chat_equal(left, right, work);
  if (name == "in") return contains(right, left, work);
  if (name == "not in") return !contains(right, left, work);
  if (name == "<") return less(name, left, right);
  if (name == ">") return less(name, right, left);
  if (name == "<=") return !less(name, right, left);
  if (name == ">=") return !less(name, left, right);
  if (name == "~") return left.text() + right.text();
  return arithmetic(name, left, right, work);
}

ChatValue chat_attribute(const ChatValue& object, const std::string& name, ChatWork& work) {
  if (object.undefined()) {
    chat_failure("'" + object.get<ChatUndefined>()->name + "' is undefined, and so has no '" +
                 name + "'");
  }
  if (object.members() != nullptr) {
    work.spend(object.members()->size());
    if (const ChatValue* found = find_member(*object.members(), name)) return *found;
  }
  return ChatValue(ChatUndefined{name});
}

ChatValue chat_item(const ChatValue& object, const ChatValue& index, ChatWork& work) {
  if (index.string() != nullptr) return chat_attribute(object, *index.string(), work);
  if (object.undefined()) chat_attribute(object, index.text(), work);
  const auto* number = index.get<std::int64_t>();
  if (number != nullptr && object.list() != nullptr) {
    if (const ChatValue* found = at(*object.list(), *number)) return *found;
  }
  if (number != nullptr && object.string() != nullptr) {
    if (const auto found = character_at(*object.string(), *number)) return std::string(*found);
  }
  return ChatValue(ChatUndefined{"an item"});
}

ChatValue chat_slice(const ChatValue& object, const ChatValue& from, const ChatValue& to,
                     const ChatValue& step, ChatWork& work) {
  if (object.list() != nullptr) {
    const Slice slice = slice_of(object.list()->size(), from, to, step);
    work.spend_items(static_cast<std::size_t>(slice.count));
    ChatList part;
    for (std::int64_t i = 0; i < slice.count; ++i) part.push_back((*object.list())[slice[i]]);
    return part;
  }
  if (object.string() == nullptr) chat_failure(std::string("a slice of ") + object.type());
  return slice_text(*object.string(), from, to, step, work);
}

ChatList chat_items(const ChatValue& value, ChatWork& work) {
  ChatList items;
  if (value.list() != nullptr) {
    work.spend_items(value.list()->size());
    return *value.list();
  }
  if (value.string() != nullptr) {
    const std::size_t count = count_code_points(*value.string());
    if (count > kLongestChatList) chat_unsupported("a list or mapping this long");
    work.spend_items(4 * count);  // each a value of its own
    for (std::string& character : characters_of(*value.string()))
      items.emplace_back(std::move(character));
  } else if (value.mapping()) {
    for (const auto& member : *value.members()) {
      work.spend(4 * ChatWork::kItem + member.first.size());
      items.emplace_back(member.first);
    }
  } else if (!value.undefined()) {
    chat_failure(std::string("going over ") + value.type());
  }
  return items;
}

}  // namespace neap
