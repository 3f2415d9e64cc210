#!/usr/bin/env python3
"""The program as a user meets it: run for real on a tiny model, its exit status, both of its outputs and what it
leaves on the disk looked at. NEAP is the program; standard library only.
"""
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "support"))

from byte_tokenizer import byte_tokenizer  # noqa: E402

NEAP = os.environ["NEAP"]
GOLDEN = TESTS / "golden"


def run(*arguments, **options):
    environment = {**os.environ, "OMP_NUM_THREADS": "2", **options.pop("env", {})}
    result = subprocess.run([NEAP, *map(str, arguments)], capture_output=True, timeout=300, env=environment, **options)
    result.stdout, result.stderr = (stream.decode("utf8", "replace") for stream in (result.stdout, result.stderr))
    return result


class CliTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="neap-cli-"))
        cls.model = cls.folder / "model"
        cls.model.mkdir()
        for name in ("config.json", "model.safetensors"):
            shutil.copy(GOLDEN / "models/llama2" / name, cls.model)
        (cls.model / "tokenizer.json").write_text(json.dumps(byte_tokenizer()))
        (cls.model / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))
        cls.text = cls.folder / "text.txt"
        cls.text.write_text("The quick brown fox jumps over the lazy dog. Caf\u00e9.\n" * 200)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def assert_fails(self, result, *words, status=1):
        """One line that begins as all errors do and contains the words; nothing on standard output."""
        self.assertEqual(result.returncode, status, result.stderr)
        self.assertEqual(result.stdout, "")
        lines = result.stderr.splitlines()
        self.assertEqual(len(lines), 1, result.stderr)
        self.assertTrue(lines[0].startswith("neap: error: "), lines[0])
        for word in words:
            self.assertIn(str(word), lines[0])

    def assert_usage(self, result, *words):
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertEqual(result.stdout, "")
        first, second = result.stderr.splitlines()
        for word in words:
            self.assertIn(word, first)
        self.assertRegex(second, r"^Try: neap.* --help$")

    def json_of(self, *arguments, **options):
        result = run(*arguments, "--json", **options)
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)


class Usage(CliTest):
    def test_help_of_every_command_ends_with_examples(self):
        for command in ("quantize", "export", "verify", "eval", "inspect", "generate", "chat", "bench"):
            result = run(command, "--help")
            self.assertEqual(result.returncode, 0)
            self.assertEqual(result.stderr, "")
            self.assertIn("Examples:\n  neap " + command, result.stdout)
        self.assertIn("quantize", run("--help").stdout)
        self.assertIn("Examples:\n  neap codebooks fit", run("codebooks", "fit", "--help").stdout)

    def test_levels_of_instructions_are_listed_and_forced(self):
        here = re.search(r"that run here:\s+([\w, ]+\w)", run("bench", "--help").stdout)[1].split(", ")
        self.assertEqual(here[0], "scalar")
        self.assertLessEqual(set(here), {"scalar", "avx2", "avx512", "avx512bf16"})
        self.assert_usage(run("bench", "x", "--isa", "sse"), "--isa")

    def test_help_fits_into_100_columns(self):
        for command in ([], ["quantize"], ["export"], ["verify"], ["eval"], ["inspect"], ["generate"], ["chat"], ["bench"], ["imatrix"], ["codebooks"], ["codebooks", "fit"]):
            for line in run(*command, "--help").stdout.splitlines():
                self.assertLessEqual(len(line), 100, line)

    def test_version(self):
        self.assertRegex(run("--version").stdout, r"^neap \d+\.\d+\.\d+\n$")

    def test_command_lines_that_make_no_sense(self):
        for words in ((), ("help",), ("help", "quantize")):
            said = run(*words)
            self.assertEqual(said.returncode, 0 if words else 2)
            self.assertIn("Usage: neap", said.stdout if words else said.stderr)
        self.assert_usage(run("frobnicate"), "no such command", "frobnicate")
        self.assert_usage(run("eval"), "MODEL")
        self.assert_usage(run("eval", "x", "--frobnicate"), "--frobnicate")
        self.assert_usage(run("eval", "x", "--windows", "-1"), "--windows")
        self.assert_usage(run("eval", "x", "--ppl-mode", "other"), "--ppl-mode")
        self.assert_usage(run("eval", "x", "--max-memory", "8Q"), "8Q")
        self.assert_usage(run("quantize", "x"), "--output")
        self.assert_usage(run("codebooks"), "subcommand")
        self.assert_usage(run("quantize", "x", "-o", "y", "--sym", "--asym"), "--sym")
        self.assert_usage(run("eval", "x", env={"NEAP_THREADS": "many"}), "many")


class BadModels(CliTest):
    def test_wrong_path(self):
        for command in (["inspect"], ["eval", "--text", self.text], ["generate", "-p", "x"],
                        ["quantize", "-o", self.folder / "out"]):
            with self.subTest(command[0]):
                self.assert_fails(run(command[0], "/no/such/model", *command[1:]), "/no/such/model")

    def test_directory_that_is_no_model(self):
        self.assert_fails(run("inspect", GOLDEN), GOLDEN, "config.json")

    def test_truncated_files(self):
        broken = self.folder / "broken"
        shutil.copytree(self.model, broken)
        whole = (self.model / "model.safetensors").read_bytes()
        (broken / "model.safetensors").write_bytes(whole[:-1000])
        for command in (["inspect"], ["generate", "-p", "x"], ["quantize", "-o", self.folder / "out"]):
            with self.subTest(command[0]):
                self.assert_fails(run(command[0], broken, *command[1:]), broken / "model.safetensors")
        gguf = self.folder / "broken.gguf"
        gguf.write_bytes((GOLDEN / "gguf/llama2.gguf").read_bytes()[:10000])
        self.assert_fails(run("inspect", gguf), gguf)
        self.assertFalse((self.folder / "out").exists())

    def test_not_in_the_hub_cache(self):
        self.assert_fails(run("inspect", "nobody/nothing", env={"HF_HUB_CACHE": str(self.folder)}), "nobody/nothing")


class Inspect(CliTest):
    def test_every_golden_model(self):
        for model in [*GOLDEN.glob("models/*"), *GOLDEN.glob("gguf/*.gguf")]:
            with self.subTest(model.name):
                found = self.json_of("inspect", model)
                self.assertTrue(found["supported"])
                self.assertEqual(found["bytes"], sum(t["bytes"] for t in found["types"].values()))
                self.assertIn("vocabulary 259", run("inspect", model).stdout)

    def test_a_model_of_an_unknown_architecture(self):
        other = self.folder / "other"
        shutil.copytree(self.model, other)
        config = json.loads((other / "config.json").read_text())
        config |= {"model_type": "mamba", "architectures": ["MambaForCausalLM"]}
        (other / "config.json").write_text(json.dumps(config))
        found = self.json_of("inspect", other, "--tensors")
        self.assertFalse(found["supported"])
        self.assertEqual(found["architecture"], "mamba")
        self.assertGreater(len(found["tensors"]), 10)
        self.assertIn("not supported", run("inspect", other).stdout)
        self.assert_fails(run("generate", other, "-p", "x"), "mamba")

    def test_bits_of_a_dense_model_are_those_of_its_type(self):
        self.assertEqual(self.json_of("inspect", self.model)["bits_per_weight"], {"whole_file": 32.0})


class Eval(CliTest):
    def test_json(self):
        found = self.json_of("eval", self.model, "--reference", self.model, "--text", self.text, "--window", 128,
                             "--windows", 5, "--precision", "f32")
        self.assertEqual(found["windows"], 5)
        self.assertEqual(found["predicted_tokens"], 5 * 127)
        self.assertEqual(found["kl"]["mean"], 0)
        self.assertEqual(found["same_top"]["mean"], 1)
        self.assertEqual(found["perplexity"], found["reference_perplexity"])
        self.assertGreater(found["perplexity"], 1)
        text, = found["texts"]
        self.assertEqual(text["tokens"], len(self.text.read_bytes()))
        self.assertRegex(text["xxh3"], "^[0-9a-f]{16}$")

    def test_underscores_do_for_hyphens(self):
        hyphens = self.json_of("eval", self.model, "--text", self.text, "--ppl-mode", "llamacpp", "--windows", 2)
        underscores = self.json_of("eval", self.model, "--text", self.text, "--ppl_mode=llamacpp", "--windows", 2)
        self.assertEqual(hyphens["perplexity"], underscores["perplexity"])
        self.assertEqual(hyphens["predicted_tokens"], 2 * 255)
        self.assertEqual(hyphens["window"], 512)

    def test_the_number_of_threads_changes_nothing(self):
        a, b = (self.json_of("eval", self.model, "--text", self.text, "--window", 256, "--threads", n)
                for n in (1, 3))
        self.assertEqual(a["perplexity"], b["perplexity"])

    def test_token_ids_and_text_mean_the_same(self):
        ids = self.folder / "ids.jsonl"
        tokens = [3 + b for b in self.text.read_bytes()[:512]]
        ids.write_text("".join(json.dumps({"ids": tokens[i:i + 256]}) + "\n" for i in (0, 256)))
        a = self.json_of("eval", self.model, "--text", ids, "--window", 256)
        b = self.json_of("eval", self.model, "--text", self.text, "--window", 256, "--windows", 2)
        self.assertEqual(a["perplexity"], b["perplexity"])

    def test_head_and_embedding_are_quantized_by_choice(self):
        def perplexity(*options):
            found = self.json_of("eval", self.model, "--text", self.text, "--window", 128, "--windows", 5, *options)
            return found["perplexity"], (found["head"], found["embedding"])
        kinds = ("stored", "int8", "lobcq")
        found = {(head, embedding): perplexity("--head", head, "--embedding", embedding) for head in kinds for embedding in kinds}
        self.assertEqual([kind for _, kind in found.values()], list(found))
        self.assertEqual(len({value for value, _ in found.values()}), 9)
        self.assertEqual(found["stored", "stored"], perplexity())
        self.assert_usage(run("eval", self.model, "--embedding", "int3"), "--embedding")
        self.assert_usage(run("eval", self.model, "--simulate", "--embedding", "int8"), "--simulate", "--embedding")
        texts = {run("generate", self.model, "-p", "a", "-n", 20, "-q", "--embedding", "int8", "-t", t).stdout for t in (1, 3)}
        self.assertEqual(len(texts), 1)

    def test_searched_scales_need_activations_in_lobcq(self):
        search = ("--activation-scales", "search")
        self.assert_fails(run("eval", self.model, "--text", self.text, "--window", 128, *search), self.model, "activations in LO-BCQ")
        self.assert_fails(run("eval", self.model, "--text", self.text, "--window", 128, "--activations", "nvfp4", *search), "nvfp4")
        self.assert_fails(run("generate", self.model, "-p", "a", *search), "activations in LO-BCQ")
        self.assert_fails(run("bench", self.model, *search), "activations in LO-BCQ")

    def test_too_short_a_text(self):
        short = self.folder / "short.txt"
        short.write_text("too short")
        self.assert_fails(run("eval", self.model, "--text", short), "2048 tokens", "9")

    def test_missing_text(self):
        self.assert_fails(run("eval", self.model, "--text", "/no/such/text"), "/no/such/text")

    def test_tasks(self):
        tasks = self.folder / "tasks.jsonl"
        lines = [{"context": "a", "choices": ["b", "cc"], "answer": 0}, {"question": "d", "choices": ["e", "f"],
                                                                         "answer": "B"}]
        tasks.write_text("".join(json.dumps(line) + "\n" for line in lines))
        found = self.json_of("eval", self.model, "--tasks", tasks)
        self.assertEqual(found["choices"]["tasks"], 2)
        self.assertNotIn("perplexity", found)
        self.assertIn("accuracy", run("eval", self.model, "--tasks", tasks).stdout)
        tasks.write_text('{"context": "a", "choices": ["b"], "answer": 0}\n')
        self.assert_fails(run("eval", self.model, "--tasks", tasks), tasks, "line 1")


class Generate(CliTest):
    def test_the_same_seed_gives_the_same_text(self):
        arguments = ("generate", self.model, "-p", "Hello", "-n", 20, "--temperature", 1)
        a, b, c = (self.json_of(*arguments, "--seed", seed)["ids"] for seed in (1, 1, 2))
        self.assertEqual(a, b)
        self.assertNotEqual(a, c)

    def test_the_stream_is_whole_characters(self):
        result = run("generate", self.model, "-p", "caf\u00e9", "-n", 60, "--temperature", 1, "--seed", 3)
        found = self.json_of("generate", self.model, "-p", "caf\u00e9", "-n", 60, "--temperature", 1, "--seed", 3)
        self.assertEqual(result.returncode, 0)
        self.assertEqual(result.stdout, found["text"] + "\n")


    def test_several_prompts_are_each_alone(self):
        prompts = ["Hello", "caf\u00e9 and", "x"]
        arguments = ("-n", 12, "--repetition-penalty", 1.2)
        listed = self.json_of("generate", self.model, "-p", prompts[0], "-p", prompts[1], "-p", prompts[2], *arguments)
        for i, prompt in enumerate(prompts):
            alone = self.json_of("generate", self.model, "-p", prompt, *arguments)
            self.assertEqual(listed["texts"][i]["ids"], alone["ids"])
        for name, lines in (("prompts.txt", prompts), ("prompts.jsonl", [json.dumps({"prompt": p}) for p in prompts])):
            path = self.folder / name
            path.write_text("\n".join(lines) + "\n")
            again = self.json_of("generate", self.model, "--prompts", path, "--at-once", 2, "-t", 1, *arguments)
            self.assertEqual(again["texts"], listed["texts"])
        self.assertIn("[3/3]\n", run("generate", self.model, "--prompts", path, *arguments).stdout)

    def test_prompt_files_that_are_none(self):
        self.assert_fails(run("generate", self.model, "--prompts", "/no/such/file"), "/no/such/file")
        path = self.folder / "bad.jsonl"
        path.write_text('{"prompt": "a"}\n{"question": "b"}\n')
        self.assert_fails(run("generate", self.model, "--prompts", path), path, "line 2")
        path.write_text("")
        self.assert_fails(run("generate", self.model, "--prompts", path), path, "no prompt")

    def test_a_stop_text_ends_the_text_before_it(self):
        arguments = ("generate", self.model, "-p", "Hello", "-n", 40, "--temperature", 1, "--seed", 5)
        free = self.json_of(*arguments)
        self.assertEqual(free["ending"], "max_tokens")
        stop = free["text"][10:13]
        stopped = self.json_of(*arguments, "--stop", stop, "--stop", "nowhere to be found")
        self.assertEqual(stopped["text"], free["text"][:free["text"].index(stop)])
        self.assertEqual(stopped["ending"], "stop_text")
        self.assertEqual(run(*arguments, "--stop", stop).stdout, stopped["text"] + "\n")

    def test_the_cache_may_be_int8(self):
        arguments = ("eval", self.model, "--text", self.text, "--window", 128, "--windows", 8)
        found = self.json_of(*arguments, "--reference", self.model, "--kv-cache", "int8")
        self.assertGreater(found["kl"]["mean"], 0)
        self.assertLess(found["kl"]["mean"], 1e-3)
        self.assertEqual(run("generate", self.model, "-p", "a", "-n", 3, "--kv-cache", "int8").returncode, 0)
        self.assert_usage(run("generate", self.model, "--kv-cache", "int2"), "--kv-cache")

    def test_what_is_no_option(self):
        for option, value in (("--min-p", 2), ("--top-p", -1), ("--repetition-penalty", 0), ("--at-once", 0)):
            self.assert_usage(run("generate", self.model, "-p", "x", option, value), option)
        self.assert_usage(run("generate", self.model, "-p", "x", "--prompts", "y"), "--prompt")


class Chat(CliTest):
    TEMPLATE = ("{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}"
                "{% if add_generation_prompt %}[assistant]{% endif %}")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.template = cls.folder / "template.jinja"
        cls.template.write_text(cls.TEMPLATE)
        cls.arguments = ("chat", cls.model, "--chat-template", cls.template, "--temperature", 0, "-n", 6, "--stop", "\n")

    def chat(self, *lines, options=(), **how):
        return run(*self.arguments, *options, input="".join(line + "\n" for line in lines).encode(), **how)

    def generated(self, text):
        return self.json_of("generate", self.model, "-p", text, "-n", 6, "--stop", "\n")["text"]

    def test_turns_are_what_the_template_makes_of_the_whole_conversation(self):
        first = self.generated("[system]Be brief.\n[user]Hi\n[assistant]")
        second = self.generated(f"[system]Be brief.\n[user]Hi\n[assistant]{first}\n[user]And?\n[assistant]")
        result = self.chat("Hi", "", "And?", options=("--system", "Be brief."))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stdout, f"{first}\n{second}\n")

    def test_a_turn_reads_new_tokens_alone_and_clear_forgets(self):
        result = self.chat("Hi", "And?", "/clear", "Hi", options=("-v",))
        lines = [line for line in result.stderr.splitlines() if "tokens of conversation" in line]
        counts = [[int(word) for word in line.replace(",", " ").split() if word.isdigit()] for line in lines]
        self.assertEqual(len(counts), 3, result.stderr)
        (first, read_first, *_), (second, read_second, *_), (third, read_third, *_) = counts
        self.assertEqual(first, len("[user]Hi\n[assistant]"))
        self.assertEqual(read_first, first)
        # "\n[user]And?\n[assistant]" and the answer's last token, and what was drawn into the stop text.
        self.assertLess(read_second, second - first)
        self.assertEqual(third, first)
        self.assertEqual(read_third, 1)
        answers = result.stdout.splitlines()
        self.assertEqual(answers[0], answers[2])

    def test_a_refused_template_names_the_option(self):
        self.assert_fails(run("chat", self.model, input=b"Hi\n"), "--chat-template")
        self.assert_fails(run("generate", self.model, "--chat", "-p", "Hi"), "--chat-template")
        self.assert_fails(run("chat", self.model, "--chat-template", "/no/such/file"), "/no/such/file")
        self.template.with_name("odd.jinja").write_text("{% frobnicate %}")
        self.assert_fails(run("chat", self.model, "--chat-template", self.template.with_name("odd.jinja")),
                          "--chat-template")

    def test_a_last_line_needs_no_end_and_carriage_returns_go(self):
        whole = self.chat("Hi").stdout
        self.assertEqual(run(*self.arguments, input=b"Hi").stdout, whole)
        self.assertEqual(run(*self.arguments, input=b"Hi\r\n").stdout, whole)
        self.assertEqual(run(*self.arguments, input=b"").stdout, "")

    def test_a_conversation_that_is_too_long_says_so(self):
        positions = json.loads((self.model / "config.json").read_text())["max_position_embeddings"]
        result = self.chat("x" * positions, "Hi")
        self.assertEqual(result.returncode, 0)
        self.assertIn("/clear", result.stderr)
        self.assertEqual(len(result.stdout.splitlines()), 1)

    def test_ctrl_c_stops_an_answer_and_the_conversation_goes_on(self):
        endless = self.folder / "endless"
        shutil.copytree(self.model, endless)
        config = json.loads((endless / "config.json").read_text()) | {"max_position_embeddings": 1 << 20}
        (endless / "config.json").write_text(json.dumps(config))
        (endless / "tokenizer_config.json").unlink()  # no end token
        command = [NEAP, "chat", str(endless), "--chat-template", str(self.template), "-n", "1000000", "-v"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdin.write(b"Hi\n")
        process.stdin.flush()
        process.stdout.read(1)  # the answer has begun
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 0, errors)
        self.assertTrue(output.endswith(b"\n"))
        self.assertIn(b"tokens of answer", errors)


class Bench(CliTest):
    def test_json_has_llama_benchs_names(self):
        tests = self.json_of("bench", self.model, "-p", "16,32", "-n", 4, "-d", "0,8", "-r", 2, "-t", 1)
        self.assertEqual([(t["n_prompt"], t["n_gen"], t["n_depth"]) for t in tests],
                         [(16, 0, 0), (32, 0, 0), (0, 4, 0), (16, 0, 8), (32, 0, 8), (0, 4, 8)])
        for test in tests:
            self.assertEqual(len(test["samples_ts"]), 2)
            self.assertAlmostEqual(test["avg_ts"], sum(test["samples_ts"]) / 2, places=3)
            self.assertEqual(test["n_threads"], 1)
            self.assertEqual(test["model_filename"], str(self.model))
            self.assertGreater(test["read_share"], 0)
            self.assertGreater(test["product_share"], 0)
            self.assertLess({"cpu_info", "backends", "model_type", "model_size", "model_n_params", "type_k", "type_v",
                             "test_time", "avg_ns", "stddev_ns", "stddev_ts", "samples_ns"}, set(test))

    def test_json_says_how_layers_run(self):
        def ways(*options):
            test, = self.json_of("bench", self.model, "-p", 0, "-n", 2, "-r", 1, *options)
            return [test[name] for name in ("int8_inputs", "head", "embedding", "activation_scales")]
        self.assertEqual(ways(), [False, "stored", "stored", "maximum"])
        self.assertEqual(ways("--int8", "--head", "lobcq", "--embedding", "int8"), [True, "lobcq", "int8", "maximum"])

    def test_table(self):
        result = run("bench", self.model, "-p", 16, "-n", 0, "-r", 1, "-q", "--kv-cache", "int8")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertRegex(result.stdout, r"(?m)^\| llama .*\| +pp16 \| +[0-9.]+ \u00b1 0.00 \|")
        self.assertNotIn("tg", result.stdout)

    def test_nothing_to_measure(self):
        self.assert_fails(run("bench", self.model, "-p", 0, "-n", 0), "nothing to measure")
        self.assert_usage(run("bench", self.model, "-p", "many"), "-p")


class Quantize(CliTest):
    GRID = ("--bits", 3, "--group-size", 4, "--asym")

    def quantize(self, name, *arguments):
        out = self.folder / name
        report = self.json_of("quantize", self.model, "-o", out, *self.GRID, *arguments)
        self.assertEqual(report["output"], str(out))
        return out, report

    def assert_nothing_left(self, name):
        self.assertEqual(list(self.folder.glob(name + "*")), [])

    def test_output_is_a_model_like_any_other(self):
        out, report = self.quantize("whole", "--calib", self.text, "--seqlen", 128)
        self.assertEqual(len(report["layers"]), 14)
        inspected = self.json_of("inspect", out)
        self.assertAlmostEqual(inspected["bits_per_weight"]["quantized_layers"],
                               report["bits_per_weight"]["quantized_layers"], places=2)
        self.assertAlmostEqual(inspected["bits_per_weight"]["whole_file"], report["bits_per_weight"]["whole_file"],
                               places=2)
        self.assertEqual(inspected["recipe"]["method"], "ojbkq")
        self.assertIn("made by Neap", run("inspect", out).stdout)
        found = self.json_of("eval", out, "--reference", self.model, "--text", self.text, "--window", 128)
        self.assertGreater(found["kl"]["mean"], 0)
        self.assertLess(found["kl"]["mean"], 1)
        self.assertEqual(run("generate", out, "-p", "a", "-n", 3).returncode, 0)

    def test_a_recipe_file_repeats_a_run_byte_for_byte(self):
        first, _ = self.quantize("first", "--calib", self.text, "--seqlen", 128, "--paths", 2, "--threads", 1)
        again = self.folder / "again"
        self.json_of("quantize", self.model, "-o", again, "--recipe", first / "neap_recipe.json", "--calib", self.text,
                     "--threads", 3)
        self.assertEqual((first / "model.safetensors").read_bytes(), (again / "model.safetensors").read_bytes())
        self.assertEqual((first / "neap_recipe.json").read_bytes(), (again / "neap_recipe.json").read_bytes())

    def test_schemes_and_their_contradictions(self):
        out, report = self.quantize("scheme", "--method", "rtn", "--scheme", "w3a16_g4_asym")
        self.assertEqual(report["grid"]["bits"], 3)
        self.assertFalse(report["grid"]["symmetric"])
        arguments = ("quantize", self.model, "-o", self.folder / "bad", "--method", "rtn")
        self.assert_fails(run(*arguments, "--scheme", "W4A16", "--bits", 3), "--scheme", "--bits")
        self.assert_fails(run(*arguments, "--scheme", "W4A4"), "W4A4")
        self.assert_fails(run(*arguments, "--group-size", 0), "--group-size")
        self.assert_fails(run(*arguments, "--group-size", 7), "group")
        self.assert_fails(run(*arguments, "--lm-head", "9"), "--lm-head")
        self.assert_fails(run(*arguments, "--override", "nonsense"), "nonsense")
        self.assert_fails(run(*arguments[:-1], "best"), "best", "ojbkq")
        self.assert_nothing_left("bad")

    def test_an_existing_output_stays_unless_told(self):
        out, _ = self.quantize("kept", "--method", "rtn")
        before = (out / "model.safetensors").read_bytes()
        self.assert_fails(run("quantize", self.model, "-o", out, "--method", "rtn", "--bits", 4), out)
        self.assertEqual((out / "model.safetensors").read_bytes(), before)
        self.quantize("kept", "--method", "rtn", "--overwrite", "--seed", 1)

    def test_too_little_calibration_text(self):
        result = run("quantize", self.model, "-o", self.folder / "little", *self.GRID, "--calib", self.text,
                     "--samples", 1000)
        self.assert_fails(result, self.text, "tokens")
        self.assert_nothing_left("little")

    def test_ctrl_c_leaves_nothing(self):
        command = [NEAP, "quantize", self.model, "-o", self.folder / "stopped", *self.GRID, "--samples", 2000, "--seqlen",
                   500]
        process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while process.poll() is None and not list(self.folder.glob("stopped.partial*")):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 130, errors)
        self.assertEqual(output, b"")
        self.assertIn(b"stopped", errors)
        self.assert_nothing_left("stopped")


class Verify(CliTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.out = cls.folder / "out"
        result = run("quantize", cls.model, "-o", cls.out, "--method", "rtn", "--bits", 4, "--group-size", 4)
        assert result.returncode == 0, result.stderr
        cls.printed = result.stdout

    def test_quantize_verifies_what_it_writes(self):
        self.assertRegex(self.printed, "verified +[0-9]+ tensors")
        self.assertIn("KL ", self.printed)
        report = json.loads((self.out / "quantization_report.json").read_text())
        self.assertGreater(report["verification"]["kl"]["mean"], 0)
        _, quick = self.out, self.json_of("quantize", self.model, "-o", self.folder / "quick", "--method", "rtn", "--group-size", 4, "--no-verify")
        self.assertNotIn("verification", quick)

    def test_against_the_source(self):
        found = self.json_of("verify", self.out, "--against", self.model, "--text", self.text, "--tokens", 100)
        self.assertTrue(found["hashes_compared"])
        self.assertEqual(found["predicted_tokens"], 99)
        self.assertEqual(found["kinds"][0]["kind"], "down_proj")
        result = run("verify", self.out, "--against", self.model)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("worst", result.stdout)
        self.assert_fails(run("verify", self.out, "--against", self.model, "--max-kl", 1e-9), "KL divergence", "nats")
        self.assert_fails(run("verify", self.out, "--against", self.model, "--max-kl", 1, "--tokens", 0), "cannot be measured")
        self.assert_usage(run("verify", self.out, "--max-kl", 1), "--against")

    def test_one_line_for_what_is_wrong(self):
        broken = self.folder / "broken"
        shutil.copytree(self.out, broken)
        weights = bytearray((broken / "model.safetensors").read_bytes())
        weights[-1] ^= 1
        (broken / "model.safetensors").write_bytes(weights)
        self.assert_fails(run("verify", broken), broken, "bytes are not those")
        self.assert_fails(run("verify", self.out, "--text", "/no/such/text"), "/no/such/text")
        self.assert_fails(run("verify", "/no/such/model"), "/no/such/model")


class Outputs(CliTest):
    """What stands beside a model, several from one calibration, one format from another."""
    GRID = ("--calib", "TEXT", "--seqlen", 128, "--group-size", 32, "--ignore", "re:.*(gate|up|down)_proj")

    def grid(self):
        return [self.text if word == "TEXT" else word for word in self.GRID]

    def test_a_card_says_how_it_was_made(self):
        (self.model / "README.md").write_text("---\nlicense: mit\n---\nBig.\n")
        out = self.folder / "carded"
        self.json_of("quantize", self.model, "-o", out, "--base-model", "Org/Big", *self.grid())
        card = (out / "README.md").read_text()
        (self.model / "README.md").unlink()
        self.assertIn("base_model: Org/Big\nbase_model_relation: quantized\n", card)
        self.assertIn("license: \"mit\"", card)
        self.assertIn(f"neap quantize {self.model} -o {out} --base-model Org/Big", card)
        self.assertIn("text.txt", card)
        report = json.loads((out / "quantization_report.json").read_text())
        for file in report["source"]["files"]:
            self.assertIn(file["xxh3"], card)

    def test_a_single_gguf(self):
        out = self.folder / "single.gguf"
        report = self.json_of("quantize", self.model, "-o", out, "--scheme", "GGUF:Q4_0", "--allow-fallback", "--method", "rtn")
        self.assertEqual(sorted(p.name for p in self.folder.glob("single*")), ["single.gguf", "single.gguf.md", "single.gguf.report.json"])
        self.assertEqual(report["recipe"]["type"], "Q4_0")
        self.assertTrue(self.json_of("verify", out)["hashes_compared"])
        self.assertEqual(self.json_of("inspect", out)["recipe"], report["recipe"])
        self.assert_fails(run("quantize", self.model, "-o", out, "--scheme", "GGUF:Q4_0", "--allow-fallback", "--method", "rtn"), "exists already")
        self.assert_fails(run("quantize", self.model, "-o", self.folder / "no.gguf", "--method", "rtn", "--group-size", 4), "no.gguf")
        again = self.folder / "again.gguf"
        self.json_of("quantize", self.model, "-o", again, "--recipe", f"{out}.report.json")
        self.assertEqual(out.read_bytes(), again.read_bytes())

    def test_several_outputs_of_one_run(self):
        first, second, third = (self.folder / name for name in ("several-1", "several-2", "several-3.gguf"))
        result = run("quantize", self.model, "-o", first, *self.grid(), "--also", f"W4A16G32:gptq={second}", "--also", f"W8A16G32={third}")
        self.assert_fails(result, third)
        result = run("quantize", self.model, "-o", first, *self.grid(), "--also", f"W4A16G32:gptq={second}", "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        reports = json.loads(result.stdout)
        self.assertEqual([r["output"] for r in reports], [str(first), str(second)])
        self.assertTrue((second / "quantize_config.json").exists())
        third = self.folder / "several-4.gguf"
        result = run("quantize", self.model, "-o", self.folder / "several-5", *self.grid(), "--also", f"GGUF:Q4_0={third}", "--allow-fallback")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertTrue(self.json_of("verify", third)["hashes_compared"])
        for wrong in ("W4A16", "=x", "W4A16=", "WRONG=x"):
            self.assert_fails(run("quantize", self.model, "-o", self.folder / "x", "--also", wrong), wrong.split("=")[0])

    def test_export_changes_no_value(self):
        out, gptq, gguf = (self.folder / name for name in ("exported", "exported-gptq", "exported.gguf"))
        self.json_of("quantize", self.model, "-o", out, *self.grid())
        report = self.json_of("export", out, "--format", "gptq", "-o", gptq)
        self.assertEqual(report["verification"]["worst"][0]["relative_error"], 0)
        self.json_of("export", gptq, "--format", "gguf", "-o", gguf)
        found = self.json_of("verify", gguf, "--against", out)
        self.assertLess(found["kl"]["mean"], 1e-6)
        self.assertIn("value for value", run("export", out, "--format", "gguf", "-o", gguf, "--overwrite").stdout)
        self.assert_fails(run("export", out, "--format", "gguf", "-o", gguf), "exists already")
        self.assert_fails(run("export", self.model, "--format", "gptq", "-o", self.folder / "x"), "quantized")
        self.assert_fails(run("export", gguf, "--format", "gguf", "-o", self.folder / "x"), "GGUF already")
        self.assertFalse((self.folder / "x").exists())
        split = self.folder / "exported-split"
        self.json_of("export", out, "--format", "gguf", "-o", split, "--max-shard-size", "20K")
        self.assertTrue(list(split.glob("exported-split-00001-of-*.gguf")))

    def test_places_where_nothing_can_be_written(self):
        arguments = ("quantize", self.model, "--method", "rtn", "--group-size", 4, "-o")
        if os.geteuid() != 0:  # root writes anywhere
            closed = self.folder / "closed"
            closed.mkdir(mode=0o500)
            self.assert_fails(run(*arguments, closed / "out"), closed)
        self.assert_fails(run(*arguments, "/proc/out"), "/proc/out")
        self.assert_fails(run(*arguments, self.text / "out"), self.text)
        self.assert_fails(run(*arguments, self.model), "is the model that is being read")
        self.assert_fails(run("export", self.model, "--format", "gptq", "-o", "/proc/out"), "quantized")


    # Of at most 64 KiB, which no output is.
    def small_files(self):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))

    def outputs(self, folder):
        whole = self.folder / "w4-for-export"
        if not whole.exists():
            self.json_of("quantize", self.model, "-o", whole, "--method", "rtn", *self.grid()[4:])
        yield "quantize", self.model, "--method", "rtn", "--group-size", 4, "-o", folder / "out"
        yield "quantize", self.model, "--method", "rtn", "--scheme", "GGUF:Q8_0", "--allow-fallback", "-o", folder / "out.gguf"
        yield "quantize", self.model, "--method", "rtn", "--scheme", "NVFP4A16", "--ignore", "re:.*down_proj", "-o", folder / "out"
        yield "quantize", self.model, "--scheme", "LOBCQ", "--method", "rtn", "--weights-only", "--block-array", 16, "-o", folder / "out"
        yield "export", whole, "--format", "gptq", "-o", folder / "out"

    def test_files_that_cannot_grow(self):
        folder = self.folder / "small"
        folder.mkdir()
        for arguments in self.outputs(folder):
            self.assert_fails(run(*arguments, preexec_fn=self.small_files), "cannot reserve", "File too large")
            self.assertEqual(list(folder.iterdir()), [])

    def test_a_full_disk_and_a_read_only_one(self):
        folder = self.folder / "mounted"
        folder.mkdir()
        in_namespace = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o "$1" none "$2" && shift 2 && exec "$@"', "sh"]
        if subprocess.run([*in_namespace, "size=64k", folder, "true"], capture_output=True).returncode != 0:
            self.skipTest("no right to mount")
        for options, words in (("size=64k", "No space left"), ("size=64k,ro", "Read-only file system")):
            for arguments in self.outputs(folder):
                command = [*in_namespace, options, folder, "sh", "-c", '"$@"; status=$?; ls -A "$OUT" >&2; exit $status', "sh", NEAP, *arguments]
                result = subprocess.run(list(map(str, command)), capture_output=True, text=True, env={**os.environ, "OUT": str(folder)})
                self.assert_fails(result, words)  # and the folder's listing is empty


class Lobcq(CliTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.books = cls.folder / "books.json"
        rows = [[(2 * i - 15) * reach // 15 for i in range(16)] for reach in (31, 28, 25, 22, 19, 16, 13, 10)]
        cls.books.write_text(json.dumps({"format": "neap-codebooks", "version": 1, "block_array": 64, "block": 8,
                                         "num_codebooks": 8, "weights": rows, "activations": rows}))

    def quantize(self, name, *arguments):
        out = self.folder / name
        report = self.json_of("quantize", self.model, "-o", out, "--scheme", "LOBCQ", "--codebooks", self.books, *arguments)
        return out, report

    def perplexity(self, model, *arguments):
        return self.json_of("eval", model, "--text", self.text, "--window", 128, "--windows", 20, *arguments)["perplexity"]

    def test_output_is_a_model_like_any_other(self):
        out, report = self.quantize("lobcq", "--calib", self.text, "--seqlen", 128)
        self.assertEqual(report["grid"], {"block_array": 64, "block": 8, "num_codebooks": 8})
        inspected = self.json_of("inspect", out)
        self.assertAlmostEqual(inspected["bits_per_weight"]["quantized_layers"],
                               report["bits_per_weight"]["quantized_layers"], places=6)
        self.assertAlmostEqual(inspected["bits_per_weight"]["whole_file"], report["bits_per_weight"]["whole_file"], places=2)
        self.assertEqual(inspected["quantization_config"]["activations"], "static")
        self.assertIn("scheme lobcq", run("inspect", out).stdout)
        self.assertEqual(run("generate", out, "-p", "a", "-n", 3).returncode, 0)
        w4a4 = self.perplexity(out)
        self.assertNotEqual(w4a4, self.perplexity(out, "--activations", "keep"))
        self.assertEqual(w4a4, self.perplexity(out, "--activations", "stored", "--threads", 1))
        searched = self.perplexity(out, "--activation-scales", "search")
        self.assertNotEqual(w4a4, searched)
        self.assertEqual(searched, self.perplexity(out, "--activation-scales", "search", "--simulate"))
        timed, = self.json_of("bench", out, "-p", 0, "-n", 2, "-r", 1, "--activation-scales", "search")
        self.assertEqual(timed["activation_scales"], "search")
        self.assert_usage(run("eval", out, "--activation-scales", "best"), "--activation-scales")

    def test_activations_alone(self):
        kept, coded = (self.perplexity(self.model, *how) for how in (
            (), ("--activations", "lobcq", "--codebooks", self.books)))
        self.assertNotEqual(kept, coded)
        self.assertEqual(kept, self.perplexity(self.model, "--activations", "keep"))
        self.assert_fails(run("eval", self.model, "--text", self.text, "--codebooks", self.books), "--codebooks", "lobcq")
        self.assert_usage(run("eval", self.model, "--activations", "int8"), "--activations")

    def test_divergence_falls_from_rounding_to_decoding(self):
        divergence = {}
        for method in ("rtn", "ojbkq"):
            out, _ = self.quantize(method, "--weights-only", "--method", method,
                                   *(("--calib", self.text, "--seqlen", 128) if method == "ojbkq" else ()))
            divergence[method] = self.json_of("eval", out, "--reference", self.model, "--text", self.text, "--window", 128,
                                              "--windows", 20)["kl"]["mean"]
        self.assertLess(divergence["ojbkq"], divergence["rtn"])

    def test_a_recipe_file_repeats_a_run_byte_for_byte(self):
        first, _ = self.quantize("first", "--method", "rtn", "--threads", 1)
        again = self.folder / "again"
        self.json_of("quantize", self.model, "-o", again, "--recipe", first / "neap_recipe.json", "--threads", 3)
        self.assertEqual((first / "model.safetensors").read_bytes(), (again / "model.safetensors").read_bytes())

    def test_what_does_not_go_together(self):
        arguments = ("quantize", self.model, "-o", self.folder / "bad", "--codebooks", self.books)
        lobcq = (*arguments, "--scheme", "LOBCQ")
        for option in (("--bits", 4), ("--group-size", 32), ("--asym",), ("--override", "Linear=bits:8"), ("--lm-head", 8),
                       ("--paths", 3)):
            with self.subTest(option[0]):
                self.assert_fails(run(*lobcq, *option), option[0], "LOBCQ")
        self.assert_fails(run(*lobcq, "--method", "awq"), "awq", "ojbkq")
        self.assert_fails(run(*lobcq, "--method", "gptaq"), "gptaq", "ojbkq")
        self.assert_fails(run(*lobcq, "--format", "compressed-tensors"), "neap")
        self.assert_fails(run(*lobcq, "--format", "gguf"), "found gguf", "expected neap")
        self.assert_fails(run(*lobcq, "--format", "ggml"), "ggml", "compressed-tensors, neap, gguf")
        self.assert_fails(run(*lobcq, "--block-array", 48), "48")
        self.assert_fails(run(*lobcq, "--num-codebooks", 4), self.books, "4 codebooks", "8 codebooks")
        self.assert_fails(run(*arguments, "--weights-only"), "--weights-only", "LOBCQ, NVFP4")
        self.assert_fails(run(*arguments[:-2], "--format", "neap"), "compressed-tensors")
        self.assertEqual(list(self.folder.glob("bad*")), [])

    def test_codebooks_that_are_none(self):
        whole = json.loads(self.books.read_text())
        bad = self.folder / "none.json"
        for change in ({"version": 2}, {"weights": whole["weights"][:7]}, {"extra": 1},
                       {"weights": [whole["weights"][0][::-1], *whole["weights"][1:]]},
                       {"activations": [[40] * 16, *whole["activations"][1:]]}):
            bad.write_text(json.dumps(whole | change))
            with self.subTest(str(change)[:40]):
                self.assert_fails(run("quantize", self.model, "-o", self.folder / "bad", "--scheme", "LOBCQ", "--codebooks",
                                      bad), bad)


class BlockScaled(CliTest):
    """NVFP4, MXFP4 and INT4 on a model whose down projections have 44 inputs, which no group divides."""
    IGNORE = ("--ignore", "re:.*down_proj")

    def quantize(self, name, scheme, *arguments):
        out = self.folder / name
        report = self.json_of("quantize", self.model, "-o", out, "--scheme", scheme, *self.IGNORE, "--calib", self.text,
                              "--seqlen", 128, *arguments)
        return out, report

    def evaluate(self, model, *arguments):
        return self.json_of("eval", model, "--reference", self.model, "--text", self.text, "--window", 128, "--windows", 20,
                            *arguments)

    def test_outputs_are_models_like_any_other(self):
        for scheme, bits in (("NVFP4", 4.5), ("mxfp4", 4.25), ("INT4", 4.25)):
            with self.subTest(scheme):
                out, report = self.quantize(scheme, scheme, "--method", "rtn")
                self.assertEqual(report["bits_per_weight"]["quantized_layers"], bits)
                self.assertTrue(report["activations"].startswith(scheme.upper()), report["activations"])
                inspected = self.json_of("inspect", out)
                self.assertEqual(inspected["bits_per_weight"]["quantized_layers"], bits)
                self.assertAlmostEqual(inspected["bits_per_weight"]["whole_file"], report["bits_per_weight"]["whole_file"],
                                       places=2)
                self.assertEqual(inspected["weights"], self.json_of("inspect", self.model)["weights"])
                self.assertEqual(inspected["recipe"]["scheme"], scheme.lower())
                self.assertIn("scheme " + scheme.lower(), run("inspect", out).stdout)
                self.assertEqual(run("generate", out, "-p", "a", "-n", 3).returncode, 0)
                w4a4, w4a16 = self.evaluate(out), self.evaluate(out, "--activations", "keep")
                self.assertNotEqual(w4a4["perplexity"], w4a16["perplexity"])
                self.assertEqual(w4a4["perplexity"], self.evaluate(out, "--threads", 1)["perplexity"])

    def test_weights_alone_are_those_of_both(self):
        for scheme in ("NVFP4", "MXFP4", "INT4"):
            both, _ = self.quantize("both" + scheme, scheme, "--method", "rtn")
            alone, report = self.quantize("alone" + scheme, scheme, "--method", "rtn", "--weights-only")
            named, _ = self.quantize("named" + scheme, scheme + "A16", "--method", "rtn")
            self.assertEqual((alone / "model.safetensors").read_bytes(), (named / "model.safetensors").read_bytes())
            self.assertEqual(report["activations"], "16 bits")
            self.assertEqual(self.evaluate(alone)["perplexity"], self.evaluate(both, "--activations", "keep")["perplexity"])

    def test_divergence_falls_from_rounding_to_decoding(self):
        for scheme in ("NVFP4", "MXFP4", "INT4"):
            divergence = [self.evaluate(self.quantize(scheme + method, scheme, "--weights-only", "--method", method)[0])["kl"]["mean"]
                          for method in ("rtn", "ojbkq")]
            self.assertLess(divergence[1], divergence[0], scheme)

    def test_a_recipe_file_repeats_a_run_byte_for_byte(self):
        first, _ = self.quantize("first", "NVFP4", "--threads", 1)
        again = self.folder / "again"
        self.json_of("quantize", self.model, "-o", again, "--recipe", first / "neap_recipe.json", "--calib", self.text,
                     "--threads", 3)
        self.assertEqual((first / "model.safetensors").read_bytes(), (again / "model.safetensors").read_bytes())

    def test_activations_alone(self):
        self.assert_fails(run("eval", self.model, "--text", self.text, "--window", 128, "--activations", "nvfp4"), "NVFP4",
                          "multiples of 16", 44)

    def test_what_does_not_go_together(self):
        arguments = ("quantize", self.model, "-o", self.folder / "bad", *self.IGNORE)
        for scheme in ("NVFP4", "MXFP4", "INT4"):
            options = [("--bits", 4), ("--asym",), ("--override", "Linear=bits:8"), ("--lm-head", 8), ("--codebooks", "x.json"),
                       ("--block-array", 64), ("--num-codebooks", 8)]
            if scheme != "INT4":
                options += [("--group-size", 32), ("--paths", 3)]
            for option in options:
                with self.subTest(scheme + option[0]):
                    self.assert_fails(run(*arguments, "--scheme", scheme, *option), option[0], "--scheme " + scheme)
            for method in ("awq", "gptaq"):
                self.assert_fails(run(*arguments, "--scheme", scheme, "--method", method), method, "ojbkq with " + scheme)
            self.assert_fails(run(*arguments, "--scheme", scheme, "--format", "neap"), "compressed-tensors")
            self.assert_fails(run(*arguments[:4], "--scheme", scheme, "--method", "rtn"), "down_proj", "divisor of 44")
        self.assert_fails(run(*arguments, "--scheme", "INT4", "--group-size", 32), "INT4", "64 or 128")
        self.assert_fails(run(*arguments, "--scheme", "NVFP4A8"), "NVFP4A8", "NVFP4A16")
        self.assert_fails(run(*arguments, "--scheme", "INT4", "--group-size", 128), "divisor of 64")
        self.assertEqual(list(self.folder.glob("bad*")), [])


class Gguf(CliTest):
    """On a model whose down projections have 44 inputs, which are no whole block."""

    def quantize(self, name, *arguments):
        out = self.folder / name
        report = self.json_of("quantize", self.model, "-o", out, "--scheme", "GGUF:q4_0", *arguments)
        return out, report

    def test_outputs_are_models_like_any_other(self):
        out, report = self.quantize("gguf", "--calib", self.text, "--seqlen", 128, "--allow-fallback", "--refit", 1)
        self.assertEqual(report["bits_per_weight"]["quantized_layers"], 4.5)
        self.assertEqual(sorted(p.name for p in out.iterdir()), ["README.md", "gguf.gguf", "neap_recipe.json", "quantization_report.json"])
        self.assertTrue(any("down_proj have 44" in note for note in report["notes"]), report["notes"])
        for model in (out, out / "gguf.gguf"):
            self.assertEqual(self.json_of("inspect", model)["architecture"], "llama")
            self.assertEqual(run("generate", model, "-p", "a", "-n", 3).returncode, 0)
        evaluated = self.json_of("eval", out, "--reference", self.model, "--text", self.text, "--window", 128, "--windows", 20)
        self.assertLess(evaluated["kl"]["mean"], 0.5)
        again, _ = self.quantize("gguf", "--overwrite", "--method", "rtn", "--allow-fallback", "--ignore", "re:.*down_proj")
        self.assertEqual(json.loads((again / "neap_recipe.json").read_text())["type"], "Q4_0")

    def test_a_mix_is_called_by_its_own_name(self):
        command = ("quantize", self.model, "-o", self.folder / "mix", "--scheme", "GGUF:Q4_K_M", "--method", "rtn", "--allow-fallback", "--overwrite")
        self.assertRegex(run(*command).stdout, "grid +GGUF Q4_K_M\n")
        self.assertEqual(self.json_of(*command)["grid"], {"type": "Q4_K_M"})

    def test_a_split_model_is_the_same_model(self):
        options = ("--method", "rtn", "--allow-fallback")
        whole, _ = self.quantize("whole", *options)
        split, _ = self.quantize("split", *options, "--max-shard-size", "20K")
        names = sorted(p.name for p in split.glob("*.gguf"))
        self.assertEqual(names, [f"split-{i + 1:05}-of-{len(names):05}.gguf" for i in range(len(names))])
        self.assertGreater(len(names), 1)
        self.assertTrue(self.json_of("verify", split, "--against", self.model)["hashes_compared"])
        evaluated = self.json_of("eval", split, "--reference", whole, "--text", self.text, "--window", 128, "--windows", 2, "--simulate")
        self.assertEqual(evaluated["kl"]["max"], 0)
        command = ("quantize", self.model, *options, "--scheme", "GGUF:Q4_0", "--max-shard-size")
        self.assert_usage(run(*command, "much", "-o", self.folder / "bad"), "--max-shard-size")
        self.assert_fails(run(*command, "20K", "-o", self.folder / "bad.gguf"), "bad.gguf", "one file is not several")

    def test_an_importance_matrix_stands_for_text(self):
        matrix = self.folder / "imatrix.gguf"
        made = self.json_of("imatrix", self.model, "-o", matrix, "--calib", self.text, "--seqlen", 128)
        self.assertEqual(made["weights"], 14)
        self.assert_fails(run("imatrix", self.model, "-o", self.text, "--calib", self.text), "over what is read")
        out, report = self.quantize("weighed", "--imatrix", matrix, "--allow-fallback")
        self.assertEqual(report["calibration"]["tokens"], made["windows"] * 128)
        self.assertEqual(report["calibration"]["sources"][0]["name"], str(matrix))
        recipe = json.loads((out / "neap_recipe.json").read_text())
        self.assertEqual((recipe["method"], recipe["imatrix"]), ("rtn", True))
        command = ("quantize", self.model, "-o", self.folder / "bad", "--allow-fallback", "--scheme", "GGUF:Q4_0")
        self.assert_fails(run(*command, "--recipe", out / "neap_recipe.json"), "importance matrix", "none is given")
        self.assert_fails(run(*command, "--imatrix", matrix, "--method", "ojbkq"), "rtn with an imatrix")
        self.assert_fails(run(*command, "--imatrix", self.text), self.text.name, "offset 4", "not an importance matrix")
        self.assert_fails(run(*command, "--imatrix", out / "weighed.gguf"), "is not an importance matrix")

    def test_what_does_not_go_together(self):
        command = ("quantize", self.model, "-o", self.folder / "bad", "--method", "rtn")
        self.assert_fails(run(*command, "--scheme", "GGUF:Q4_0"), "model.layers.0.mlp.down_proj", "--allow-fallback")
        self.assert_fails(run(*command, "--scheme", "GGUF:Q4_X"), "Q4_X", "Q4_0, Q4_1")
        self.assert_fails(run(*command, "--scheme", "GGUF:Q4_0", "--bits", 4), "--bits", "GGUF")
        self.assert_fails(run(*command, "--allow-fallback"), "--allow-fallback", "GGUF")
        self.assert_fails(run(*command, "--scheme", "LOBCQ", "--refit", 1), "--refit", "LOBCQ")
        self.assertEqual(list(self.folder.glob("bad*")), [])


class Gptq(CliTest):
    """On a model whose MLP is 44 wide, which is no whole number of words."""
    IGNORE = ("--ignore", "re:.*mlp.*")

    def test_outputs_are_the_same_model_as_compressed_tensors(self):
        evaluated = {}
        for form, grid in (("gptq", "--sym"), ("gptq_v2", "--asym"), ("compressed-tensors", "--sym"), ("compressed-tensors", "--asym")):
            out = self.folder / (form + grid)
            report = self.json_of("quantize", self.model, "-o", out, "--format", form, grid, "--bits", 4, "--group-size", 32,
                                  "--calib", self.text, "--seqlen", 128, "--override", "re:.*o_proj=bits:8", *self.IGNORE,
                                  "--ignore", "re:.*layers.1.self_attn.o_proj")
            inspected = self.json_of("inspect", out)
            self.assertGreater(inspected["bits_per_weight"]["quantized_layers"], 4)
            self.assertEqual(len(report["layers"]), 7)
            evaluated[form, grid] = self.json_of("eval", out, "--text", self.text, "--window", 128, "--windows", 20)["perplexity"]
            if form != "compressed-tensors":
                words = json.loads((out / "config.json").read_text())["quantization_config"]
                self.assertEqual(words, json.loads((out / "quantize_config.json").read_text()))
                self.assertEqual(words["checkpoint_format"], form)
        self.assertEqual(evaluated["gptq", "--sym"], evaluated["compressed-tensors", "--sym"])
        self.assertEqual(evaluated["gptq_v2", "--asym"], evaluated["compressed-tensors", "--asym"])

    def test_what_does_not_go_together(self):
        command = ("quantize", self.model, "-o", self.folder / "bad", "--method", "rtn", "--group-size", 4)
        self.assert_fails(run(*command, "--format", "gptq"), "mlp.", "multiples of 8")
        self.assert_fails(run(*command, "--format", "gptq", "--asym", *self.IGNORE), "gptq_v2")
        self.assert_fails(run(*command, "--format", "gptq", "--bits", 5, *self.IGNORE), "2, 3, 4 or 8 bits")
        self.assert_fails(run(*command, "--format", "gptq", "--lm-head", 8, *self.IGNORE), "lm_head", "head")
        self.assert_fails(run(*command[:-2], "--format", "gptq", "--scheme", "GGUF:Q4_0"), "expected gguf")
        self.assertEqual(list(self.folder.glob("bad*")), [])


class Codebooks(CliTest):
    FIT = ("codebooks", "fit", "--block-array", 16, "--num-codebooks", 2, "--starts", 1)

    def test_fit_writes_what_compare_reads(self):
        out, plot = self.folder / "books.json", self.folder / "books.svg"
        first = run(*self.FIT, self.model, "--text", self.text, "--seqlen", 64, "-o", out, "--plot", plot, "-q")
        self.assertEqual((first.returncode, first.stderr), (0, ""))
        self.assertIn("relative error", first.stdout)
        self.assertTrue(plot.read_text().startswith("<svg "))
        books = json.loads(out.read_text())
        self.assertEqual((books["format"], len(books["weights"]), len(books["activations"])), ("neap-codebooks", 2, 2))
        again = self.json_of(*self.FIT, self.model, "--text", self.text, "--seqlen", 64, "--compare", out, "universal")
        self.assertEqual(again["codebooks"], books)
        self.assertEqual(again["weights"]["compared"][0], again["weights"]["error"])
        self.assertGreaterEqual(again["weights"]["compared"][1], again["weights"]["error"])

    def test_bad_files_and_contradictions(self):
        self.assert_fails(run(*self.FIT), "nothing to fit to")
        self.assert_fails(run(*self.FIT, self.model, "--block", 3), "found 16, 3 and 2")
        bad = self.folder / "bad.json"
        bad.write_text(json.dumps({"format": "neap-codebooks", "version": 9}))
        self.assert_fails(run(*self.FIT, "--synthetic", "--compare", bad), bad, "version", 9)

    def test_synthetic_arrays_need_no_model(self):
        found = self.json_of(*self.FIT, "--synthetic", "--reservoir", 2000)
        self.assertEqual(found["weights"]["arrays_kept"], 1000)


class Outputs(CliTest):
    def test_full_disk(self):
        with open("/dev/full", "w") as full:
            result = subprocess.run([NEAP, "inspect", self.model], stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual(result.returncode, 1)
        self.assertIn("No space left", result.stderr)

    def test_a_reader_that_goes_away_is_no_error_message(self):
        read, write = os.pipe()
        os.close(read)
        result = subprocess.run([NEAP, "inspect", self.model, "--tensors"], stdout=write, stderr=subprocess.PIPE)
        os.close(write)
        self.assertEqual(result.returncode, 128 + signal.SIGPIPE)
        self.assertEqual(result.stderr, b"")

    def test_log_level(self):
        self.assert_fails(run("inspect", self.model, env={"NEAP_LOG_LEVEL": "loud"}), "NEAP_LOG_LEVEL", "loud")


if __name__ == "__main__":
    unittest.main()
