#include "model/chat_template.h"

#include <algorithm>
#include <deque>

#include "model/chat_builtins.h"
#include "model/chat_syntax.h"

namespace neap {
namespace {

using Expression = ChatExpression;
using Statement = ChatStatement;

// kDeepest: evaluations and statements inside one another, each a few frames of the stack.
constexpr int kDeepestCall = 50, kDeepest = 1000;

enum class Flow { next, leave, repeat };

// strftime on the fixed day.
std::string format_date(const std::string& format) {
  static const std::pair<char, const char*> kFields[] = {
      {'d', "26"}, {'b', "Jul"},    {'B', "July"}, {'m', "07"}, {'Y', "2024"},
      {'y', "24"}, {'A', "Friday"}, {'a', "Fri"},  {'H', "00"}, {'M', "00"},
      {'S', "00"}, {'j', "208"},    {'%', "%"}};
  std::string out;
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      out += format[i];
      continue;
    }
    const char field = ++i < format.size() ? format[i] : '\0';
    const auto* found = std::find_if(std::begin(kFields), std::end(kFields),
                                     [&](const auto& entry) { return entry.first == field; });
    if (found == std::end(kFields)) chat_unsupported("the date format " + format);
    out += found->second;
  }
  return out;
}

ChatValue make_range(const ChatArguments& arguments) {
  const std::size_t count = arguments.positional.size();
  std::int64_t bounds[3] = {0, 0, 1};
  for (std::size_t i = 0; i < count && i < 3; ++i) {
    const auto* value = arguments.positional[i].get<std::int64_t>();
    if (value == nullptr) chat_failure("range of what is no integer");
    bounds[count == 1 ? 1 : i] = *value;
  }
  if (count == 0 || count > 3 || bounds[2] == 0) chat_failure("range");
  ChatList list;
  for (std::int64_t i = bounds[0]; bounds[2] > 0 ? i < bounds[1] : i > bounds[1]; i += bounds[2]) {
    if (list.size() >= 100'000) chat_failure("range is too long");  // the sandbox's own limit
    list.emplace_back(i);
  }
  return list;
}

class Renderer {
 public:
  explicit Renderer(const ChatMembers& variables) : scopes_(1, variables) {
    define("raise_exception", [](const ChatArguments& a) -> ChatValue {
      chat_failure(a.positional.empty() ? "" : a.positional[0].text());
    });
    define("strftime_now", [](const ChatArguments& a) -> ChatValue {
      return format_date(a.positional.empty() ? "" : a.positional[0].text());
    });
    define("range", [this](const ChatArguments& a) -> ChatValue {
      ChatValue range = make_range(a);
      work_.spend_items(range.list()->size());
      return range;
    });
    define("namespace", [this](const ChatArguments& a) -> ChatValue {
      if (!a.positional.empty()) chat_unsupported("a namespace from a mapping");
      namespaces_.push_back(a.named);
      return ChatValue(ChatNamespace{&namespaces_.back()});
    });
  }

  std::string run(const ChatBody& body) {
    std::string out;
    statements(body, out);
    return out;
  }

 private:
  void define(const char* name, ChatFunction function) {
    if (find_member(scopes_[0], name) == nullptr)
      scopes_[0].emplace_back(name, std::move(function));
  }

  // One node of the syntax, as long as it is being evaluated.
  class Step {
   public:
    explicit Step(Renderer& renderer) : depth_(renderer.depth_) {
      renderer.work_.spend(ChatWork::kNode);
      if (depth_ == kDeepest) chat_unsupported("rendering nested this deep");
      ++depth_;
    }
    ~Step() { --depth_; }
    Step(const Step&) = delete;
    Step& operator=(const Step&) = delete;

   private:
    int& depth_;
  };

  // --- Variables

  ChatValue look_up(const std::string& name) {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      work_.spend(scope->size());
      if (const ChatValue* found = find_member(*scope, name)) return *found;
    }
    return ChatValue(ChatUndefined{name});
  }

  void set(const std::string& name, ChatValue value) {
    work_.spend(scopes_.back().size());
    for (auto& member : scopes_.back()) {
      if (member.first == name) return static_cast<void>(member.second = std::move(value));
    }
    scopes_.back().emplace_back(name, std::move(value));
  }

  void set_all(const std::vector<std::string>& names, ChatValue value) {
    if (names.size() == 1) return set(names[0], std::move(value));
    const ChatList items = chat_items(value, work_);
    if (items.size() != names.size()) chat_failure("unpacking what has another length");
    for (std::size_t i = 0; i < names.size(); ++i) set(names[i], items[i]);
  }

  // --- Statements

  Flow statements(const ChatBody& body, std::string& out) {
    for (const Statement& statement : body) {
      if (const Flow flow = run_statement(statement, out); flow != Flow::next) return flow;
    }
    return Flow::next;
  }

  Flow run_statement(const Statement& statement, std::string& out) {
    const Step step(*this);
    switch (statement.kind) {
      case Statement::Kind::text:
        append(out, statement.text);
        break;
      case Statement::Kind::output:
        append(out, evaluate(*statement.expression).text());
        break;
      case Statement::Kind::branches:
        for (const ChatBranch& branch : statement.branches) {
          if (branch.condition == nullptr || evaluate(*branch.condition).truth()) {
            return statements(branch.body, out);
          }
        }
        break;
      case Statement::Kind::loop:
        return loop(statement, out);
      case Statement::Kind::assign:
        assign(statement);
        break;
      case Statement::Kind::assign_body: {
        std::string text;
        statements(statement.bodies[0], text);
        set(statement.names[0], std::move(text));
        break;
      }
      case Statement::Kind::macro:
        set(statement.names[0], ChatFunction([this, &statement](const ChatArguments& arguments) {
              return call_macro(statement, arguments);
            }));
        break;
      case Statement::Kind::leave:
        return Flow::leave;
      case Statement::Kind::repeat:
        return Flow::repeat;
      case Statement::Kind::block:
        return statements(statement.bodies[0], out);
    }
    return Flow::next;
  }

  void append(std::string& out, const std::string& text) {
    work_.spend(text.size());
    if (out.size() + text.size() > kLongestChatText) chat_unsupported("a text this long");
    out += text;
  }

  void assign(const Statement& statement) {
    ChatValue value = evaluate(*statement.expression);
    if (statement.text.empty()) return set_all(statement.names, std::move(value));
    const ChatValue target = look_up(statement.names[0]);
    const auto* space = target.get<ChatNamespace>();
    if (space == nullptr) chat_failure("'" + statement.names[0] + "' is no namespace");
    work_.spend(space->members->size());
    for (auto& member : *space->members) {
      if (member.first == statement.text)
        return static_cast<void>(member.second = std::move(value));
    }
    space->members->emplace_back(statement.text, std::move(value));
  }

  // Each round has variables of its own.
  Flow loop(const Statement& statement, std::string& out) {
    ChatList items = chat_items(evaluate(*statement.expression), work_);
    if (statement.condition != nullptr) {
      std::erase_if(items, [&](const ChatValue& item) {
        scopes_.emplace_back();
        set_all(statement.names, item);
        const bool keep = evaluate(*statement.condition).truth();
        scopes_.pop_back();
        return !keep;
      });
    }
    if (items.empty()) return statements(statement.bodies[1], out);
    for (std::size_t i = 0; i < items.size(); ++i) {
      work_.spend(4 * ChatWork::kNode);  // for loop_variable
      scopes_.push_back({{"loop", loop_variable(items, i)}});
      set_all(statement.names, items[i]);
      const Flow flow = statements(statement.bodies[0], out);
      scopes_.pop_back();
      if (flow == Flow::leave) break;
    }
    return Flow::next;
  }

  static ChatValue loop_variable(const ChatList& items, std::size_t i) {
    const auto at = static_cast<std::int64_t>(i), size = static_cast<std::int64_t>(items.size());
    ChatMembers members = {{"index", at + 1},           {"index0", at},   {"first", at == 0},
                           {"last", at + 1 == size},    {"length", size}, {"revindex", size - at},
                           {"revindex0", size - at - 1}};
    if (at > 0) members.emplace_back("previtem", items[i - 1]);
    if (at + 1 < size) members.emplace_back("nextitem", items[i + 1]);
    return members;
  }

  // A macro sees what stands at the top of the template, and its parameters.
  ChatValue call_macro(const Statement& macro, const ChatArguments& arguments) {
    if (++calls_ > kDeepestCall) chat_unsupported("macros calling this deep");
    const std::size_t parameters = macro.names.size() - 1;
    if (arguments.positional.size() > parameters) chat_failure("too many arguments");
    ChatMembers own;
    work_.spend(2 * parameters * arguments.named.size());
    work_.spend_items(2 * scopes_[0].size());
    for (std::size_t i = 0; i < parameters; ++i) {
      const std::string& name = macro.names[i + 1];
      const std::size_t first_default = parameters - macro.defaults.size();
      if (const ChatValue* given = arguments.find(i, name)) {
        own.emplace_back(name, *given);
      } else if (i >= first_default) {
        own.emplace_back(name, evaluate(*macro.defaults[i - first_default]));
      } else {
        own.emplace_back(name, ChatValue(ChatUndefined{name}));
      }
    }
    for (const auto& [name, value] : arguments.named) {
      if (find_member(own, name) == nullptr) chat_failure("no parameter " + name);
    }
    std::vector<ChatMembers> caller = {scopes_[0], std::move(own)};
    scopes_.swap(caller);
    std::string out;
    statements(macro.bodies[0], out);
    scopes_.swap(caller);
    --calls_;
    return out;
  }

  // --- Expressions

  // Pays for texts, so that whoever is given one may go over it once.
  ChatValue evaluate(const Expression& e) {
    const Step step(*this);
    ChatValue value = evaluate_kind(e);
    if (value.string() != nullptr) work_.spend(value.string()->size());
    return value;
  }

  ChatValue evaluate_kind(const Expression& e) {
    switch (e.kind) {
      case Expression::Kind::literal:
        return e.value;
      case Expression::Kind::variable:
        return look_up(e.name);
      case Expression::Kind::list:
        return list(e, 0);
      case Expression::Kind::dict:
        return dict(e);
      case Expression::Kind::attribute:
        return attribute(e);
      case Expression::Kind::item:
        return chat_item(evaluate(*e.parts[0]), evaluate(*e.parts[1]), work_);
      case Expression::Kind::slice:
        return chat_slice(evaluate(*e.parts[0]), bound(e.parts[1]), bound(e.parts[2]),
                          bound(e.parts[3]), work_);
      case Expression::Kind::call:
        return call(e);
      case Expression::Kind::filter:
        return apply_chat_filter(e.name, evaluate(*e.parts[0]), arguments(e), work_);
      case Expression::Kind::test:
        return apply_chat_test(e.name, evaluate(*e.parts[0]), arguments(e), work_);
      case Expression::Kind::unary:
        return unary(e);
      case Expression::Kind::binary:
        return binary(e);
      case Expression::Kind::choice:
        if (evaluate(*e.parts[1]).truth()) return evaluate(*e.parts[0]);
        return e.parts[2] == nullptr ? ChatValue() : evaluate(*e.parts[2]);
    }
    return {};
  }

  ChatList list(const Expression& e, std::size_t first) {
    ChatList values;
    for (std::size_t i = first; i < e.parts.size(); ++i) values.push_back(evaluate(*e.parts[i]));
    return values;
  }

  ChatValue dict(const Expression& e) {
    ChatMembers members;
    for (std::size_t i = 0; i < e.parts.size(); i += 2) {
      const ChatValue key = evaluate(*e.parts[i]);
      if (key.string() == nullptr) chat_unsupported("a key that is no text");
      work_.spend(members.size());
      if (find_member(members, *key.string()) != nullptr) chat_unsupported("a key twice");
      members.emplace_back(*key.string(), evaluate(*e.parts[i + 1]));
    }
    return members;
  }

  ChatValue bound(const ChatExpressionPtr& part) {
    return part == nullptr ? ChatValue(ChatNone{}) : evaluate(*part);
  }

  ChatArguments arguments(const Expression& e) {
    ChatArguments result{list(e, 1), {}};
    for (const auto& [name, part] : e.named) result.named.emplace_back(name, evaluate(*part));
    return result;
  }

  // A method as a value is none of the values here.
  ChatValue attribute(const Expression& e) {
    const ChatValue object = evaluate(*e.parts[0]);
    if (has_chat_method(object, e.name))
      chat_unsupported("the method " + e.name + " without a call");
    return chat_attribute(object, e.name, work_);
  }

  ChatValue call(const Expression& e) {
    const Expression& callee = *e.parts[0];
    if (callee.kind == Expression::Kind::attribute) {
      const ChatValue object = evaluate(*callee.parts[0]);
      if (has_chat_method(object, callee.name))
        return call_chat_method(object, callee.name, arguments(e), work_);
      if (object.string() != nullptr || object.list() != nullptr || object.mapping()) {
        chat_unsupported("the method " + callee.name + " of " + object.type());
      }
    }
    const ChatValue function = evaluate(callee);
    if (function.function() == nullptr) {
      const auto* missing = function.get<ChatUndefined>();
      chat_failure((missing != nullptr ? "'" + missing->name + "' is undefined" : function.type()) +
                   std::string(", and so cannot be called"));
    }
    return (*function.function())(arguments(e));
  }

  ChatValue unary(const Expression& e) {
    const ChatValue value = evaluate(*e.parts[0]);
    if (e.name == "not") return !value.truth();
    if (!value.is<std::int64_t>()) chat_failure(e.name + value.type());
    return e.name == "-" ? chat_operator("-", std::int64_t{0}, value, work_) : value;
  }

  ChatValue binary(const Expression& e) {
    ChatValue left = evaluate(*e.parts[0]);
    if (e.name == "and") return left.truth() ? evaluate(*e.parts[1]) : left;
    if (e.name == "or") return left.truth() ? left : evaluate(*e.parts[1]);
    return chat_operator(e.name, left, evaluate(*e.parts[1]), work_);
  }

  std::vector<ChatMembers> scopes_;  // the template's own first, the innermost last
  std::deque<ChatMembers> namespaces_;
  ChatWork work_;
  int depth_ = 0, calls_ = 0;
};

}  // namespace

std::string render_chat_template(std::string_view source, const ChatMembers& variables) {
  const ChatBody body = parse_chat_template(lex_chat_template(source));
  return Renderer(variables).run(body);
}

}  // namespace neap
