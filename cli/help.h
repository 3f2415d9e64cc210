// How --help looks: "--window N    tokens of a window (default: 2048)".
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace neap::cli {

class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() {
    column_width(26);
    label("Positionals", "Arguments");
  }

  std::string make_option_opts(const CLI::Option* option) const override {
    if (option->get_positional() || option->get_type_size() == 0) return "";
    // CLI11 appends what its checks accept; the descriptions say that in words.
    const std::string type = option->get_type_name();
    return " " + type.substr(0, type.find(':'));
  }

  std::string make_option_desc(const CLI::Option* option) const override {
    std::string text = option->get_description();
    std::string notes = option->get_required() && !option->get_positional() ? "required" : "";
    const auto note = [&](const std::string& name, const std::string& value) {
      if (!value.empty()) notes += (notes.empty() ? "" : "; ") + name + ": " + value;
    };
    if (option->get_type_size() != 0) note("default", option->get_default_str());
    note("environment", option->get_envname());
    if (notes.empty()) return text;
    return text + (text.ends_with('\n') ? "(" : " (") + notes + ")";
  }
};

}  // namespace neap::cli
