// The syntax of Jinja 2 templates, as far as chat templates use it.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/chat_value.h"

namespace neap {

// --- Lexer -------------------------------------------------------------------------------------

struct ChatToken {
  enum class Kind { name, literal, symbol, end };
  Kind kind = Kind::end;
  std::string text;   // of a name or a symbol
  ChatValue literal;  // a string or a number
};

// Text between tags, the inside of {{ }}, or the inside of {% %}. Comments are gone.
struct ChatSegment {
  enum class Kind { text, output, statement };
  Kind kind;
  std::string text;
  std::vector<ChatToken> tokens;  // the last one is an end
};

// White space as transformers configures Jinja: trim_blocks, lstrip_blocks, no trailing newline.
std::vector<ChatSegment> lex_chat_template(std::string_view source);

// --- Parser ------------------------------------------------------------------------------------

struct ChatExpression;
using ChatExpressionPtr = std::unique_ptr<ChatExpression>;

struct ChatExpression {
  enum class Kind {
    literal,    // value
    variable,   // name
    list,       // parts; a tuple is one too
    dict,       // keys and values in turn
    attribute,  // parts[0].name
    item,       // parts[0][parts[1]]
    slice,      // parts[0][parts[1]:parts[2]:parts[3]]; null where left out
    call,       // parts[0](the rest, named)
    filter,     // parts[0] | name(the rest, named)
    test,       // parts[0] is name(the rest)
    unary,      // name parts[0]: "not", "-", "+"
    binary,     // parts[0] name parts[1]
    choice,     // parts[0] if parts[1] else parts[2], the last null where left out
  };
  Kind kind;
  std::string name = {};
  ChatValue value = {};
  std::vector<ChatExpressionPtr> parts = {};
  std::vector<std::pair<std::string, ChatExpressionPtr>> named = {};
  int height = 1;  // of the tree from here down
};

struct ChatStatement;
using ChatBody = std::vector<ChatStatement>;

struct ChatBranch {
  ChatExpressionPtr condition;  // null: else
  ChatBody body;
};

struct ChatStatement {
  enum class Kind {
    text,         // text
    output,       // expression
    branches,     // the first whose condition holds
    loop,         // for names in expression if condition: bodies[0], else bodies[1]
    assign,       // names = expression, or names[0].text = expression
    assign_body,  // names[0] = what bodies[0] prints
    macro,        // names[0] is its own, the rest its parameters, with defaults
    leave,
    repeat,  // break, continue
    block,   // bodies[0], as it is
  };
  Kind kind;
  std::string text = {};
  std::vector<std::string> names = {};
  ChatExpressionPtr expression = {}, condition = {};
  std::vector<ChatBranch> branches = {};
  std::vector<ChatBody> bodies = {};
  std::vector<ChatExpressionPtr> defaults = {};  // of the last parameters
};

// Throws Error(unsupported) for what is not known here, wherever in the template it stands.
ChatBody parse_chat_template(const std::vector<ChatSegment>& segments);

}  // namespace neap
