#include <algorithm>

#include "model/chat_syntax.h"

namespace neap {
namespace {

using Expression = ChatExpression;
using Kind = ChatExpression::Kind;
using Token = ChatToken;

constexpr int kDeepest = 100;   // nested expressions or blocks
constexpr int kHighest = 1000;  // tree of an expression: a chain of operators is as high as it is long

// A tree is evaluated and destroyed by functions that call themselves.
void raise_above(Expression& node, const ChatExpressionPtr& part) {
  if (part == nullptr) return;
  node.height = std::max(node.height, part->height + 1);
  if (node.height > kHighest) chat_unsupported("an expression this long");
}

void add_part(Expression& node, ChatExpressionPtr part) {
  raise_above(node, part);
  node.parts.push_back(std::move(part));
}

template <class... Parts>
ChatExpressionPtr make(Kind kind, std::string name, Parts... parts) {
  auto node = std::make_unique<Expression>(Expression{.kind = kind, .name = std::move(name)});
  (add_part(*node, std::move(parts)), ...);
  return node;
}

class Depth {
 public:
  explicit Depth(int& depth) : depth_(depth) {
    if (++depth_ > kDeepest) chat_unsupported("nesting this deep");
  }
  ~Depth() { --depth_; }
  Depth(const Depth&) = delete;
  Depth& operator=(const Depth&) = delete;

 private:
  int& depth_;
};

// The inside of one tag. Precedence as in jinja2/parser.py, loosest first.
class ExpressionParser {
 public:
  explicit ExpressionParser(const std::vector<Token>& tokens) : tokens_(tokens) {}

  bool at_end() const { return peek().kind == Token::Kind::end; }
  bool take(std::string_view text) {
    if (!next_is(text)) return false;
    ++at_;
    return true;
  }
  bool next_is(std::string_view text) const {
    return peek().text == text && peek().kind != Token::Kind::literal;
  }
  void expect(std::string_view text) {
    if (!take(text)) chat_unsupported("'" + describe() + "' for '" + std::string(text) + "'");
  }
  void expect_end() const {
    if (!at_end()) chat_unsupported("'" + describe() + "' at the end of a tag");
  }
  std::string name() {
    if (peek().kind != Token::Kind::name) chat_unsupported("'" + describe() + "' for a name");
    return tokens_[at_++].text;
  }

  // One expression, or a tuple without parentheses.
  ChatExpressionPtr tuple() {
    ChatExpressionPtr first = expression();
    if (!next_is(",")) return first;
    ChatExpressionPtr list = make(Kind::list, "", std::move(first));
    while (take(",")) {
      if (at_end() || next_is(")")) break;
      add_part(*list, expression());
    }
    return list;
  }

  ChatExpressionPtr expression() {
    const Depth depth(depth_);
    ChatExpressionPtr value = disjunction();
    while (take("if")) {
      ChatExpressionPtr condition = disjunction();
      ChatExpressionPtr otherwise = take("else") ? expression() : nullptr;
      value = make(Kind::choice, "", std::move(value), std::move(condition), std::move(otherwise));
    }
    return value;
  }

  ChatExpressionPtr disjunction() {
    return binary({"or"}, [this] { return conjunction(); });
  }

 private:
  const Token& peek(std::size_t ahead = 0) const {
    return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
  }
  std::string describe() const {
    return at_end() ? "end of tag" : peek().kind == Token::Kind::literal ? "literal" : peek().text;
  }

  template <class Operand>
  ChatExpressionPtr binary(std::initializer_list<const char*> operators, const Operand& operand) {
    ChatExpressionPtr left = operand();
    while (true) {
      const auto found = std::find_if(operators.begin(), operators.end(),
                                      [this](const char* text) { return take(text); });
      if (found == operators.end()) return left;
      ChatExpressionPtr right = operand();
      left = make(Kind::binary, *found, std::move(left), std::move(right));
    }
  }

  ChatExpressionPtr conjunction() {
    return binary({"and"}, [this] { return negation(); });
  }
  ChatExpressionPtr negation() {
    const Depth depth(depth_);
    if (take("not")) return make(Kind::unary, "not", negation());
    return comparison();
  }

  ChatExpressionPtr comparison() {
    ChatExpressionPtr left = sum();
    bool first = true;
    while (true) {
      std::string name;
      for (const char* text : {"==", "!=", "<=", ">=", "<", ">", "in"}) {
        if (name.empty() && take(text)) name = text;
      }
      if (name.empty() && next_is("not") && peek(1).text == "in") {
        at_ += 2;
        name = "not in";
      }
      if (name.empty()) return left;
      if (!first) chat_unsupported("a chain of comparisons");
      first = false;
      ChatExpressionPtr right = sum();
      left = make(Kind::binary, name, std::move(left), std::move(right));
    }
  }

  ChatExpressionPtr sum() {
    return binary({"+", "-"}, [this] { return concatenation(); });
  }
  ChatExpressionPtr concatenation() {
    return binary({"~"}, [this] { return product(); });
  }
  ChatExpressionPtr product() {
    return binary({"*", "//", "/", "%"}, [this] { return unary(/*with_filters=*/true); });
  }

  ChatExpressionPtr unary(bool with_filters) {
    const Depth depth(depth_);
    ChatExpressionPtr node;
    if (take("-")) {
      node = make(Kind::unary, "-", unary(false));
    } else if (take("+")) {
      node = make(Kind::unary, "+", unary(false));
    } else {
      node = postfix(primary());
    }
    if (next_is("**")) chat_unsupported("the operator **");
    return with_filters ? filters(std::move(node)) : std::move(node);
  }

  ChatExpressionPtr literal(ChatValue value) {
    ChatExpressionPtr node = make(Kind::literal, "");
    node->value = std::move(value);
    return node;
  }

  ChatExpressionPtr primary() {
    if (peek().kind == Token::Kind::literal) {
      const ChatValue& value = tokens_[at_++].literal;
      if (value.string() == nullptr) return literal(value);
      std::string text = *value.string();
      while (peek().kind == Token::Kind::literal && peek().literal.string() != nullptr) {  // "a" "b"
        text += *tokens_[at_++].literal.string();
      }
      return literal(std::move(text));
    }
    if (take("(")) return parenthesis();
    if (take("[")) return list();
    if (take("{")) return dict();
    const std::string text = name();
    if (text == "true" || text == "True") return literal(true);
    if (text == "false" || text == "False") return literal(false);
    if (text == "none" || text == "None") return literal(ChatValue(ChatNone{}));
    return make(Kind::variable, text);
  }

  ChatExpressionPtr parenthesis() {
    if (take(")")) return make(Kind::list, "");
    ChatExpressionPtr inside = tuple();
    expect(")");
    return inside;
  }
  ChatExpressionPtr list() {
    ChatExpressionPtr node = make(Kind::list, "");
    while (!take("]")) {
      add_part(*node, expression());
      if (!next_is("]")) expect(",");
    }
    return node;
  }
  ChatExpressionPtr dict() {
    ChatExpressionPtr node = make(Kind::dict, "");
    while (!take("}")) {
      add_part(*node, expression());
      expect(":");
      add_part(*node, expression());
      if (!next_is("}")) expect(",");
    }
    return node;
  }

  ChatExpressionPtr postfix(ChatExpressionPtr node) {
    while (true) {
      if (take(".")) {
        node = make(Kind::attribute, name(), std::move(node));
      } else if (take("[")) {
        node = subscript(std::move(node));
      } else if (next_is("(")) {
        node = make(Kind::call, "", std::move(node));
        arguments(*node);
      } else {
        return node;
      }
    }
  }

  ChatExpressionPtr subscript(ChatExpressionPtr node) {
    std::vector<ChatExpressionPtr> bounds(1);
    while (!take("]")) {
      if (take(":")) {
        bounds.emplace_back();
      } else if (bounds.back() == nullptr) {
        bounds.back() = expression();
      } else {
        expect("]");
      }
    }
    if (bounds.size() == 1) {
      if (bounds[0] == nullptr) chat_unsupported("an empty subscript");
      return make(Kind::item, "", std::move(node), std::move(bounds[0]));
    }
    if (bounds.size() > 3) chat_unsupported("a slice of four parts");
    bounds.resize(3);
    return make(Kind::slice, "", std::move(node), std::move(bounds[0]), std::move(bounds[1]),
                std::move(bounds[2]));
  }

  // "(a, b, c=d)", added to what is in the node.
  void arguments(Expression& node) {
    expect("(");
    while (!take(")")) {
      if (peek().kind == Token::Kind::name && peek(1).kind == Token::Kind::symbol &&
          peek(1).text == "=") {
        std::string key = name();
        take("=");
        node.named.emplace_back(std::move(key), expression());
        raise_above(node, node.named.back().second);
      } else {
        if (next_is("*") || next_is("**")) chat_unsupported("unpacked arguments");
        add_part(node, expression());
      }
      if (!next_is(")")) expect(",");
    }
  }

  ChatExpressionPtr filters(ChatExpressionPtr node) {
    while (true) {
      if (take("|")) {
        node = make(Kind::filter, name(), std::move(node));
        if (next_is("(")) arguments(*node);
      } else if (take("is")) {
        node = test(std::move(node));
      } else if (next_is("(")) {
        node = make(Kind::call, "", std::move(node));
        arguments(*node);
      } else {
        return node;
      }
    }
  }

  // "is [not] name", with arguments in parentheses, or one bare one.
  ChatExpressionPtr test(ChatExpressionPtr node) {
    const bool negated = take("not");
    ChatExpressionPtr result = make(Kind::test, name(), std::move(node));
    if (next_is("(")) {
      arguments(*result);
    } else if (peek().kind == Token::Kind::literal || next_is("[") || next_is("{") ||
               (peek().kind == Token::Kind::name && !next_is("else") && !next_is("or") &&
                !next_is("and") && !next_is("is") && !next_is("if") && !next_is("in") &&
                !next_is("not"))) {
      add_part(*result, postfix(primary()));
    }
    return negated ? make(Kind::unary, "not", std::move(result)) : std::move(result);
  }

  const std::vector<Token>& tokens_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

class Parser {
 public:
  explicit Parser(const std::vector<ChatSegment>& segments) : segments_(segments) {}

  ChatBody run() {
    ChatBody body = statements();
    if (at_ < segments_.size()) chat_unsupported("the tag " + keyword() + " out of place");
    return body;
  }

 private:
  std::string keyword() const {
    const Token& first = segments_[at_].tokens.front();
    return first.kind == Token::Kind::name ? first.text : std::string();
  }
  bool at_statement(std::initializer_list<const char*> names) const {
    if (at_ >= segments_.size() || segments_[at_].kind != ChatSegment::Kind::statement)
      return false;
    return std::find(names.begin(), names.end(), keyword()) != names.end();
  }

  // Up to a tag that closes or parts a block.
  ChatBody statements() {
    const Depth depth(depth_);
    ChatBody body;
    while (at_ < segments_.size()) {
      const ChatSegment& segment = segments_[at_];
      if (segment.kind == ChatSegment::Kind::text) {
        body.push_back({.kind = ChatStatement::Kind::text, .text = segment.text});
        ++at_;
      } else if (segment.kind == ChatSegment::Kind::output) {
        ExpressionParser parser(segment.tokens);
        body.push_back({.kind = ChatStatement::Kind::output, .expression = parser.tuple()});
        parser.expect_end();
        ++at_;
      } else if (at_statement(
                     {"elif", "else", "endif", "endfor", "endset", "endmacro", "endgeneration"})) {
        break;
      } else {
        body.push_back(statement());
      }
    }
    return body;
  }

  ChatStatement statement() {
    ExpressionParser parser(segments_[at_].tokens);
    const std::string name = parser.name();
    if (name == "if") return branches();
    ++at_;
    if (name == "for") return loop(parser);
    if (name == "set") return assignment(parser);
    if (name == "macro") return macro(parser);
    parser.expect_end();
    if (name == "break") return {.kind = ChatStatement::Kind::leave};
    if (name == "continue") return {.kind = ChatStatement::Kind::repeat};
    if (name == "generation") {  // marks what is trained on; prints what is inside
      ChatStatement block{.kind = ChatStatement::Kind::block};
      block.bodies.push_back(statements());
      close("endgeneration");
      return block;
    }
    chat_unsupported("the tag " + name);
  }

  void close(const char* name) {
    if (!at_statement({name})) chat_unsupported(std::string("a block without ") + name);
    ExpressionParser parser(segments_[at_++].tokens);
    parser.take(name);
    if (std::string_view(name) != "endmacro") parser.expect_end();
  }

  ChatStatement branches() {
    ChatStatement result{.kind = ChatStatement::Kind::branches};
    bool last = false;
    while (!at_statement({"endif"})) {
      if (last || at_ >= segments_.size()) chat_unsupported("a block without endif");
      ExpressionParser parser(segments_[at_++].tokens);
      last = parser.name() == "else";
      ChatBranch branch;
      if (!last) branch.condition = parser.tuple();
      parser.expect_end();
      branch.body = statements();
      if (!at_statement({"elif", "else", "endif"})) chat_unsupported("a block without endif");
      result.branches.push_back(std::move(branch));
    }
    close("endif");
    return result;
  }

  ChatStatement loop(ExpressionParser& parser) {
    ChatStatement result{.kind = ChatStatement::Kind::loop};
    do {
      result.names.push_back(parser.name());
    } while (parser.take(","));
    parser.expect("in");
    result.expression = parser.disjunction();  // an "if" here filters
    if (parser.take("if")) result.condition = parser.expression();
    parser.expect_end();
    result.bodies.push_back(statements());
    result.bodies.emplace_back();
    if (at_statement({"else"})) {
      close("else");
      result.bodies[1] = statements();
    }
    close("endfor");
    return result;
  }

  ChatStatement assignment(ExpressionParser& parser) {
    ChatStatement result{.kind = ChatStatement::Kind::assign};
    result.names.push_back(parser.name());
    if (parser.take(".")) {
      result.text = parser.name();
    } else {
      while (parser.take(",")) result.names.push_back(parser.name());
    }
    if (parser.take("=")) {
      result.expression = parser.tuple();
      parser.expect_end();
      return result;
    }
    parser.expect_end();
    if (result.names.size() != 1 || !result.text.empty()) chat_unsupported("a set without a value");
    result.kind = ChatStatement::Kind::assign_body;
    result.bodies.push_back(statements());
    close("endset");
    return result;
  }

  ChatStatement macro(ExpressionParser& parser) {
    ChatStatement result{.kind = ChatStatement::Kind::macro};
    result.names.push_back(parser.name());
    parser.expect("(");
    while (!parser.take(")")) {
      result.names.push_back(parser.name());
      if (parser.take("=")) {
        result.defaults.push_back(parser.expression());
      } else if (!result.defaults.empty()) {
        chat_unsupported("a parameter without default behind one with");
      }
      if (!parser.next_is(")")) parser.expect(",");
    }
    parser.expect_end();
    result.bodies.push_back(statements());
    close("endmacro");
    return result;
  }

  const std::vector<ChatSegment>& segments_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

ChatBody parse_chat_template(const std::vector<ChatSegment>& segments) {
  return Parser(segments).run();
}

}  // namespace neap
