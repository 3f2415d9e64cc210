// neap chat: a conversation in the terminal, or with whatever writes to standard input.
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <memory>
#include <optional>

#include "chat_prompt.h"
#include "commands.h"
#include "neap/error.h"
#include "neap/generate.h"
#include "neap/text_stream.h"
#include "options.h"

namespace neap::cli {
namespace {

constexpr char kFooter[] =
    "A line is a message. Ctrl-C stops an answer, which stays in the conversation as far as it came;\n"
    "Ctrl-D, or Ctrl-C where a message is awaited, ends, and so does /exit. /clear begins anew. What\n"
    "the model has read stays in its cache: a turn costs the tokens that are new. -v tells how many\n"
    "that are.\n"
    "\n"
    "The conversation is written as the model's own chat template has it, exactly, or not at all:\n"
    "where Neap refuses a template, --chat-template takes another one.\n"
    "\n"
    "Examples:\n"
    "  neap chat small-w4\n"
    "  neap chat model.gguf --system \"Answer in one sentence.\" --temperature 0.3\n"
    "  printf 'Who are you?\\nSince when?\\n' | neap chat small-w4 --temperature 0 -q";

struct ChatCommand {
  std::string model;
  ChatOptions chat;
  std::vector<std::string> stops;
  SampleOptions sample{.max_tokens = 1024, .temperature = 0.7, .min_p = 0.05};
  Precision precision = Precision::bf16;
  std::optional<KvType> kv_type;
  std::uint64_t max_memory = 0;
  ScaleChoice activation_scales = ScaleChoice::maximum;
  PackedOptions kernels;
  CommonOptions common;
};

void add_options(CLI::App& app, ChatCommand& c) {
  add_model(app, c.model);
  add_chat_options(app, c.chat);
  app.add_option("-n,--max-tokens", c.sample.max_tokens, "tokens of an answer at most")
      ->check(kPositive)
      ->type_name("N")
      ->capture_default_str();
  add_sampling(app, c.sample);
  app.add_option("--stop", c.stops, "end an answer before this text; may be given several times")
      ->expected(1)
      ->allow_extra_args(false)
      ->take_all()
      ->type_name("TEXT");
  add_precision(app, c.precision);
  add_kv_cache(app, c.kv_type);
  add_max_memory(app, c.max_memory);
  add_kernels(app, c.kernels);
  add_activation_scales(app, c.activation_scales);
  add_quiet_options(app, c.common);
}

volatile std::sig_atomic_t interrupts = 0;

extern "C" void count_interrupt(int) { interrupts = interrupts + 1; }

// For its lifetime Ctrl-C only counts, and makes a read end early.
class InterruptCounter {
 public:
  InterruptCounter() {
    struct sigaction action {};
    action.sa_handler = count_interrupt;
    sigaction(SIGINT, &action, &before_);
  }
  ~InterruptCounter() { sigaction(SIGINT, &before_, nullptr); }
  InterruptCounter(const InterruptCounter&) = delete;
  InterruptCounter& operator=(const InterruptCounter&) = delete;

 private:
  struct sigaction before_ {};
};

// Lines of standard input. (std::getline would take up a read that a signal has ended.)
class LineReader {
 public:
  // Nothing at the end of the input, or at an interrupt.
  std::optional<std::string> next() {
    for (;;) {
      const std::size_t end = waiting_.find('\n');
      if (end != waiting_.npos) return take(end, end + 1);
      char buffer[4096];
      const ssize_t count = read(STDIN_FILENO, buffer, sizeof buffer);
      if (count > 0) {
        waiting_.append(buffer, static_cast<std::size_t>(count));
      } else if (count == 0 && !waiting_.empty()) {
        return take(waiting_.size(), waiting_.size());
      } else {
        return std::nullopt;
      }
    }
  }

 private:
  std::string take(std::size_t length, std::size_t drop) {
    std::string line = waiting_.substr(0, length);
    if (line.ends_with('\r')) line.pop_back();
    waiting_.erase(0, drop);
    return line;
  }

  std::string waiting_;
};

class Chat {
 public:
  Chat(const ChatCommand& command, Console& console)
      : c_(command),
        console_(console),
        checkpoint_(Checkpoint::open(c_.model)),
        tokenizer_(Tokenizer::open(checkpoint_)),
        prompt_(tokenizer_, c_.chat) {
    const ChatMessage probe{"user", "?"};
    static_cast<void>(prompt_.ids({&probe, 1}));  // a template that cannot be used costs no loading
    model_ = load_model(checkpoint_, {.precision = c_.precision,
                                      .max_memory = c_.max_memory,
                                      .input_scales = c_.activation_scales,
                                      .kv_type = c_.kv_type,
                                      .packed = packed_linears(c_.kernels)});
    session_.emplace(*model_);
  }

  void run() {
    const InterruptCounter counter;
    const bool asks = isatty(STDIN_FILENO) != 0 && !c_.common.quiet;
    for (;;) {
      if (asks) show("> ");
      interrupts = 0;
      const auto line = lines_.next();
      if (!line) break;
      if (*line == "/exit" || *line == "/quit") break;
      if (*line == "/clear") {
        messages_.clear();
      } else if (*line == "/help") {
        console_.log().info("/clear forgets the conversation; /exit ends it, as the end of the input does");
      } else if (!line->empty()) {
        answer(*line);
      }
    }
    if (asks) show("\n");
  }

 private:
  void show(const std::string& text) {
    if (text.empty()) return;
    console_.print(text);
    console_.flush();
  }

  void answer(const std::string& question) {
    messages_.push_back({"user", question});
    const std::vector<TokenId> ids = prompt_.ids(messages_);
    SampleOptions options = c_.sample;
    options.threads = c_.common.threads;
    const std::int64_t room =
        model_->config().max_positions - static_cast<std::int64_t>(ids.size());
    if (room <= 0) {
      messages_.pop_back();
      console_.log().warn("the conversation would be longer than the model's {} positions: /clear",
                          model_->config().max_positions);
      return;
    }
    options.max_tokens = std::min(options.max_tokens, room);
    TextStream stream(tokenizer_, ids, c_.stops);
    std::string text;
    const auto emit = [&](const std::string& piece) {
      text += piece;
      show(piece);
    };
    const auto start = std::chrono::steady_clock::now();
    const Completion completion =
        session_->go_on(ids, tokenizer_.eos(), options, [&](TokenId id) {
          emit(stream.add(id));
          return !stream.stopped() && interrupts == 0;
        });
    emit(stream.rest());
    show("\n");
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    console_.log().debug("{} tokens of conversation, {} of them read now; {} tokens of answer; {:.2f} s",
                         ids.size(), session_->tokens_read(), completion.tokens.size(), time.count());
    messages_.push_back({"assistant", text});
  }

  const ChatCommand& c_;
  Console& console_;
  Checkpoint checkpoint_;
  Tokenizer tokenizer_;
  ChatPrompt prompt_;
  std::unique_ptr<LanguageModel> model_;
  std::optional<TextSession> session_;
  LineReader lines_;
  std::vector<ChatMessage> messages_;
};

}  // namespace

Command make_chat(CLI::App& program) {
  auto command = std::make_shared<ChatCommand>();
  CLI::App* app = program.add_subcommand("chat", "Talk with a model");
  add_options(*app, *command);
  app->footer(kFooter);
  return {app, [command](Console& console) {
            command->common.apply(console);
            Chat(*command, console).run();
          }};
}

}  // namespace neap::cli
