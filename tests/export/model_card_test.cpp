#include "export/model_card.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "export/support.h"
#include "io/gguf_writer.h"
#include "support/temp_folder.h"

namespace neap {
namespace {

CardFacts facts() {
  CardFacts f;
  f.output = "small w4";
  f.source = {.name = "Big", .repository = "Org/Big", .revision = "", .license = "apache-2.0", .license_name = "", .license_link = "", .languages = {"en", "no"}};
  f.grid = "4 bits, groups of 64, symmetric";
  f.engines = {{"Neap", true, ""}, {"vLLM", true, "on a GPU"}, {"SGLang", false, "3 bits have no kernel"}};
  f.sizes = {{"tensors", "98.4 MB"}, {"left out", ""}};
  f.command = "neap quantize big -o 'small w4'";
  return f;
}

bool holds(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(ModelCard, BeginsWithTheHubsFrontMatter) {
  const std::string card = model_card(facts());
  EXPECT_TRUE(card.starts_with("---\nbase_model: Org/Big\nbase_model_relation: quantized\nlibrary_name: transformers\nlicense: apache-2.0\n"
                               "language:\n- \"en\"\n- \"no\"\npipeline_tag: text-generation\ntags:\n- neap\n- compressed-tensors\n---\n\n# Big"))
      << card;
  EXPECT_TRUE(card.ends_with("\n"));
}

TEST(ModelCard, SaysNothingThatIsNotKnown) {
  CardFacts f = facts();
  f.source.repository.clear();
  f.source.license.clear();
  f.command.clear();
  const std::string card = model_card(f);
  EXPECT_FALSE(holds(card.substr(0, card.find("# Big")), "base_model"));
  EXPECT_FALSE(holds(card, "\nlicense:"));
  EXPECT_TRUE(holds(card, "No licence is stated"));
  EXPECT_FALSE(holds(card, "left out"));
  EXPECT_FALSE(holds(card, "What it costs"));
  EXPECT_FALSE(holds(card, "neap quantize"));
}

TEST(ModelCard, OnlyEnginesThatLoadItAreToldHow) {
  const std::string card = model_card(facts());
  EXPECT_TRUE(holds(card, "neap generate 'small w4'"));
  EXPECT_TRUE(holds(card, "vllm serve 'small w4'"));
  EXPECT_FALSE(holds(card, "sglang.launch_server"));
  EXPECT_TRUE(holds(card, "- SGLang: 3 bits have no kernel"));
  CardFacts f = facts();
  f.format = FileFormat::gguf;
  f.engines = {{"llama.cpp and what is built on it", true, ""}};
  set_names(f, "some/where/out", "/tmp/x/out.gguf");
  EXPECT_TRUE(holds(model_card(f), "llama-cli -m out/out.gguf"));
  set_names(f, "some/where/out.gguf", "/tmp/x/out.gguf");
  EXPECT_TRUE(holds(model_card(f), "llama-cli -m out.gguf"));
  EXPECT_TRUE(holds(model_card(f), "library_name: gguf"));
}

TEST(SourceIdentity, IsWhatACardStates) {
  const SourceIdentity who = identity_in_card(
      "---\nlicense: other\nlicense_name: \"qwen\"\nlicense_link: 'https://x/y'\nlanguage:\n- en\n- de\nbase_model: Org/Parent\n"
      "model-index:\n  - name: x\n    license: wrong\n---\ntext\nlicense: mit\n");
  EXPECT_EQ(who.license, "other");
  EXPECT_EQ(who.license_name, "qwen");
  EXPECT_EQ(who.license_link, "https://x/y");
  EXPECT_EQ(who.languages, (std::vector<std::string>{"en", "de"}));
  EXPECT_EQ(who.repository, "");  // its parent is not itself
  EXPECT_EQ(identity_in_card("---\nbase_model: Org/Big\nbase_model_relation: quantized\n---\n").repository, "Org/Big");
  EXPECT_EQ(identity_in_card(model_card(facts())).repository, "Org/Big");
  for (const char* none : {"", "text\n---\nlicense: mit\n---\n", "---\nlicense: mit\n", "---\n---\n"}) EXPECT_EQ(identity_in_card(none).license, "") << none;
}

class IdentifyTest : public ScratchTest {};

TEST_F(IdentifyTest, AFolderOfTheHubCacheTellsRepositoryAndCommit) {
  const std::string snapshot = at("models--Org--Big-1B/snapshots/0123abc");
  std::filesystem::create_directories(snapshot);
  std::filesystem::copy(golden_model("llama2"), snapshot, std::filesystem::copy_options::recursive);
  std::ofstream(snapshot + "/README.md") << "---\nlicense: mit\n---\n";
  const SourceIdentity who = identify(Checkpoint::open(snapshot));
  EXPECT_EQ(who.name, "Big-1B");
  EXPECT_EQ(who.repository, "Org/Big-1B");
  EXPECT_EQ(who.revision, "0123abc");
  EXPECT_EQ(who.license, "mit");
  EXPECT_EQ(identify(Checkpoint::open(golden_model("llama2") + "/")).name, "llama2");
  EXPECT_EQ(identify(Checkpoint::open(golden_model("llama2"))).repository, "");
}

TEST_F(IdentifyTest, AGgufTellsWhatItsMetadataSays) {
  const GgufMetadata metadata = {{"general.architecture", std::string("llama")},
                                 {"general.name", std::string("Big")},
                                 {"general.license", std::string("mit")},
                                 {"general.repo_url", std::string("https://huggingface.co/Org/Big")},
                                 {"general.languages", std::vector<std::string>{"en"}}};
  GgufWriter(at("big"), metadata, {}).finish();
  std::filesystem::rename(std::filesystem::exists(at("big.gguf")) ? at("big.gguf") : at("big"), at("x.gguf"));
  const SourceIdentity who = identify(Checkpoint::open(at("x.gguf")));
  EXPECT_EQ(who.name, "Big");
  EXPECT_EQ(who.repository, "Org/Big");
  EXPECT_EQ(who.license, "mit");
  EXPECT_EQ(who.languages, std::vector<std::string>{"en"});
}

}  // namespace
}  // namespace neap
