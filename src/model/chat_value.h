// Values of a chat template: Python's, as far as templates use them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace neap {

class ChatValue;
class ChatWork;

// Of a text in bytes, of a list or mapping in items, and of values inside one another: what is
// larger is refused where it is made.
constexpr std::size_t kLongestChatText = std::size_t{64} << 20;
constexpr std::size_t kLongestChatList = std::size_t{1} << 20;
constexpr int kDeepestChatValue = 100;

using ChatList = std::vector<ChatValue>;
// In order of insertion.
using ChatMembers = std::vector<std::pair<std::string, ChatValue>>;

struct ChatArguments {
  ChatList positional;
  ChatMembers named;

  // The argument at `position`, or of that name; null if absent.
  const ChatValue* find(std::size_t position, std::string_view name) const;
};
using ChatFunction = std::function<ChatValue(const ChatArguments&)>;

struct ChatUndefined {
  explicit ChatUndefined(std::string_view of = {})
      : name(of.size() <= 100 ? of : "something of a long name") {}
  std::string name;  // of what is not defined, for messages
};
struct ChatNone {};
// The one value that changes after it was made. Lives as long as the rendering.
struct ChatNamespace {
  ChatMembers* members;
};

class ChatValue {
 public:
  using Data = std::variant<ChatUndefined, ChatNone, bool, std::int64_t, double,
                            std::shared_ptr<const std::string>, std::shared_ptr<const ChatList>,
                            std::shared_ptr<const ChatMembers>, ChatNamespace,
                            std::shared_ptr<const ChatFunction>>;

  ChatValue() = default;                                           // undefined
  ChatValue(ChatUndefined value) : data_(std::move(value)) {}      // NOLINT: implicit by design
  ChatValue(ChatNone value) : data_(value) {}                      // NOLINT
  ChatValue(ChatNamespace value) : data_(value) {}                 // NOLINT
  ChatValue(bool value) : data_(value) {}                          // NOLINT
  ChatValue(std::int64_t value) : data_(value) {}                  // NOLINT
  ChatValue(double value) : data_(value) {}                        // NOLINT
  ChatValue(std::string value);                                    // NOLINT
  ChatValue(const char* value) : ChatValue(std::string(value)) {}  // NOLINT
  ChatValue(ChatList value);                                       // NOLINT
  ChatValue(ChatMembers value);                                    // NOLINT
  ChatValue(ChatFunction value)  // NOLINT
      : data_(std::make_shared<const ChatFunction>(std::move(value))) {}

  template <class T>
  bool is() const {
    return std::holds_alternative<T>(data_);
  }
  template <class T>
  const T* get() const {
    return std::get_if<T>(&data_);
  }
  bool undefined() const { return is<ChatUndefined>(); }
  bool none() const { return is<ChatNone>(); }
  const std::string* string() const;
  const ChatList* list() const;
  const ChatMembers* members() const;  // of a mapping or a namespace
  bool mapping() const { return is<std::shared_ptr<const ChatMembers>>(); }
  const ChatFunction* function() const;

  // "str", "int", ...: Python's words, for messages.
  const char* type() const;
  bool truth() const;
  // What printing gives. Throws Error(unsupported) for lists, mappings and floats.
  std::string text() const;

 private:
  Data data_;
  int depth_ = 0;  // of lists and mappings inside one another
};

bool chat_equal(const ChatValue& a, const ChatValue& b, ChatWork& work);
// Null if there is none.
const ChatValue* find_member(const ChatMembers& members, std::string_view name);

// As json.dumps(ensure_ascii=False) writes it; indent < 0: on one line.
std::string chat_json(const ChatValue& value, std::int64_t indent, ChatWork& work);

// The template cannot be rendered here.
[[noreturn]] void chat_unsupported(const std::string& what);
// The template itself fails on this conversation.
[[noreturn]] void chat_failure(const std::string& what);

}  // namespace neap
