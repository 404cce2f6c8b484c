/* Tests the parts of edgekit-run that need no model: JSON, SHA-256, the command line, and the check of an artifact's files. */
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>

#include "check.h"
#include "run/failure.h"
#include "run/json.h"
#include "run/links.h"
#include "run/manifest.h"
#include "run/options.h"
#include "run/printer.h"
#include "run/replay.h"
#include "run/sha256.h"

using run::Json;

namespace {

/* What is wrong with a text; "" if it can be read. */
std::string refused(const std::string &text) {
  try {
    Json::parse(text);
    return "";
  } catch (const std::string &error) {
    return error;
  }
}

void json() {
  const Json read = Json::parse(R"( {"a": [1, -2.5e3, true, null], "b": {"c": "\"\\\n\u00e9\ud83d\ude00\ud800"}, "d": ""} )");
  CHECK(read["a"].items().size() == 4 && read["a"].items()[1].number() == -2500 && read["a"].items()[3].is_null());
  CHECK(read["b"]["c"].text() == "\"\\\n\xc3\xa9\xf0\x9f\x98\x80\xef\xbf\xbd");
  CHECK(read["missing"]["deeper"].is_null() && read["a"].items()[2].boolean());
  CHECK(Json::parse(read.dump()).dump() == read.dump());
  CHECK(Json(0.1).dump() == "0.1" && Json(25276502016.0).dump() == "25276502016" && Json(NAN).dump() == "null");
  CHECK(Json(std::string("\x01\x1f")).dump() == "\"\\u0001\\u001f\"");
  CHECK(Json(std::string("a\xff\xc3" "b\xe2\x82")).dump() == "\"a\xef\xbf\xbd\xef\xbf\xbd" "b\xef\xbf\xbd\"");
  for (const char *wrong : {"", "{", "[1,]", "{\"a\" 1}", "\"\\x\"", "\"\\u12g4\"", "01x", "1e999", "tru", "1 2", "\"a", "\"\n\"", "-", "+1"})
    CHECK(!refused(wrong).empty());
  CHECK(refused(std::string(1000, '[')).find("too many levels") == 0);
  CHECK(!refused(std::string("\0", 1)).empty());
}

/* Sizes of a manifest that somebody changed; a fuzzer found the first. */
void contexts() {
  CHECK(Json(5.0).whole() == 5 && Json(-1.0).whole() == -1 && Json(0.5).whole(7) == 7 && Json(1e87).whole(7) == 7 && Json("5").whole(7) == 7);
  const auto context = [](const std::string &longest, const std::string &planned) -> int64_t {
    try {
      return run::context_of(Json::parse("{\"model\": {\"context_length\": " + longest + "}, \"plan\": {\"context\": " + planned + "}}"), 0);
    } catch (const run::Failure &failure) {
      CHECK(failure.message.find("it must be a whole number of 1 or more") != std::string::npos);
      return -1;
    }
  };
  CHECK(context("4096", "64") == 64 && context("32", "64") == 32 && context("null", "null") == 4096);
  for (const char *wrong : {"1e87", "-3", "0", "0.5", "\"64\"", "[]"}) CHECK(context(wrong, "64") == -1 && context("4096", wrong) == -1);
}

/* NaN, wherever it stands among other logits. */
void golden() {
  const run::Golden golden = run::golden_of("a", Json::parse(R"({"golden": {"prompt_ids": [0], "continuation_ids": [1, 2],
    "top_logits": [{"id": 1, "logit": 5}, {"id": 2, "logit": 4}, {"id": 3, "logit": 3}]}})"));
  const std::vector<float> right = {0, 5, 4, 3}, next = {0, 1, 2, 0};
  const auto tokens = [&](std::vector<float> first, std::vector<float> second) {
    return run::compare_tokens(golden, first, [&](int32_t token) {
      CHECK(token == 1);
      first = second;
    });
  };
  CHECK(run::compare_logits(right, golden).passed && tokens(right, next).passed);
  CHECK(tokens({0, 5, 5.5f, 3}, next).detail == "1 of 2 tokens are the same, 1 ties");
  CHECK(!tokens({0, 5, 6, 3}, next).passed && !tokens(right, {0, 1, 0, 0}).passed);
  CHECK(!run::compare_logits({0, 5, 4, 1}, golden).passed && !run::compare_logits({0, 5, 4}, golden).passed);
  for (size_t i = 0; i < right.size(); ++i)
    for (const float nan : {NAN, -NAN}) {
      std::vector<float> first = right, second = next;
      first[i] = second[i] = nan;
      CHECK(run::compare_logits(first, golden).passed == (i == 0)); /* no logit of token 0 was recorded */
      CHECK(!tokens(first, next).passed && !tokens(right, second).passed);
      CHECK(tokens(first, next).detail == "token 1 of 2 is " + std::to_string(i) + ", not 1; its logit is nan larger");
      if (i) CHECK(run::compare_logits(first, golden).detail == "largest difference among 3 logits is nan; allowed: 1.5");
    }
}

void sha256() {
  const auto hash = [](const std::string &text, size_t piece) {
    run::Sha256 sum;
    for (size_t at = 0; at < text.size(); at += piece) sum.add(text.data() + at, std::min(piece, text.size() - at));
    return sum.finish();
  };
  /* FIPS 180-4's examples. */
  CHECK(hash("", 1) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(hash("abc", 1) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  for (const size_t piece : {1, 63, 64, 65, 1000000})
    CHECK(hash(std::string(1000000, 'a'), piece) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

run::Failure failure_of(const std::vector<std::string> &arguments) {
  try {
    run::parse(arguments);
    return {0, "", "", ""};
  } catch (const run::Failure &failure) {
    return failure;
  }
}

void options() {
  const run::Options read = run::parse({"--prompt=a=b", "folder", "--seed", "18446744073709551615", "--top-k", "0", "--kv-type", "int8", "--json"});
  CHECK(read.artifact == "folder" && read.prompt == "a=b" && read.seed == UINT64_MAX && read.top_k == 0 && read.json);
  CHECK(read.kv_type == EK_KV_INT8 && read.job == run::Job::answer && !read.temperature);
  CHECK(run::parse({"a", "--bench", "--prompt-tokens", "8,512,8"}).prompt_tokens == (std::vector<int64_t>{8, 512}));
  CHECK(run::parse({"a", "--smoke", "--context", "8", "--out=x"}).context == 8);
  CHECK(run::parse({"--", "-folder"}).artifact == "-folder");
  CHECK(run::parse({"-h"}).job == run::Job::help && run::parse({"--version", "--nonsense"}).job == run::Job::version);
  using Arguments = std::vector<std::string>;
  for (const Arguments &wrong : {Arguments{}, {"a", "b"}, {"a", "--nonsense"}, {"a", "--seed"}, {"a", "--seed", "-1"}, {"a", "--seed", " -1"},
                                 {"a", "--threads", "0"}, {"a", "--threads", "x"}, {"a", "--temperature", "nan"}, {"a", "--json"},
                                 {"a", "--raw"}, {"a", "--json=1"}, {"a", "--kv-type", "int4"}, {"a", "--bench", "--prompt", "x"},
                                 {"a", "--bench", "--prompt-tokens", "8,"}, {"a", "--temperature", "-1e-50"}, {"a", "--top-p", "0"},
                                 {"a", "--top-p", "1.000000001"}, {"a", "--min-p", "-1e-50"}, {"a", "--repetition-penalty", "0"},
                                 {"a", "--repetition-penalty", "0.009"}, {"a", "--repeat", "2"}, {"a", "--smoke", "--seed", "1"},
                                 {"a", "--smoke", "--bench"}, {"a", "--bench", "--out", "x"}, {"a", "--bench", "--context", "8"}, {"a", "--smoke", "--out", ""}, {"a", "--prompt", "x", "--json", "--thoughts", "fold"}})
    CHECK(failure_of(wrong).exit_code == 2);
  CHECK(failure_of({"a", "--top-k", "9223372036854775808"}).message == "--top-k is 9223372036854775808; it must be at most 9223372036854775807");
  CHECK(failure_of({"a", "--context", "-9223372036854775809"}).message == "--context is -9223372036854775809; it must be at least 1");
  CHECK(failure_of({"a", "--temperature", "1e39"}).message == "--temperature is 1e39; it must be a finite number of at most 3.4e+38");
  CHECK(failure_of({"a", "--nonsense"}).message.find("--nonsense") != std::string::npos);
  CHECK(run::help().find("--max-tokens TOKENS") != std::string::npos);
}

/* What a printer writes to a pipe. */
std::string printed(const std::vector<std::pair<std::string, bool>> &pieces, run::Printer &printer) {
  int ends[2];
  CHECK(::pipe(ends) == 0);
  std::fflush(stdout);
  const int before = ::dup(STDOUT_FILENO);
  CHECK(::dup2(ends[1], STDOUT_FILENO) >= 0);
  for (const auto &[text, is_thought] : pieces) printer.piece(text, is_thought);
  printer.end();
  CHECK(::dup2(before, STDOUT_FILENO) >= 0);
  ::close(before);
  ::close(ends[1]);
  std::string found(1000, '\0');
  const ssize_t size = ::read(ends[0], &found[0], found.size());
  ::close(ends[0]);
  found.resize(static_cast<size_t>(std::max<ssize_t>(size, 0)));
  return found;
}

/* A character that ends a string in C is one like all others. */
void printer() {
  using namespace std::string_literals;
  run::Printer printer(false, run::Thoughts::show);
  CHECK(printed({{"a\0b"s, true}, {"c\0"s, false}, {"d"s, false}}, printer) == "<think>\na\0b\n</think>\n\nc\0d\n"s);
  CHECK(printer.thought == "a\0b"s && printer.answer == "c\0d"s);
}

void files() {
  namespace fs = std::filesystem;
  const fs::path root = fs::temp_directory_path() / ("edgekit_run_" + std::to_string(::getpid()));
  fs::create_directories(root / "sub");
  const auto put = [&](const char *name, const std::string &text) { std::ofstream(root / name) << text; };
  put("sub/a", "abc");
  put("b", "abc");
  const std::string abc = R"({"sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "size_bytes": 3})";
  const auto found = [&](const std::string &listed) { return run::differences(root.string(), Json::parse("{\"files\": {" + listed + "}}")); };
  CHECK(found("\"sub/a\": " + abc + ", \"b\": " + abc).empty());
  CHECK(found("\"sub/a\": " + abc) == std::vector<std::string>{"b is not in the manifest"});
  fs::create_directories(root / "empty" / "deep");
  CHECK(found("\"sub/a\": " + abc + ", \"b\": " + abc) ==
        (std::vector<std::string>{"the folder empty is not in the manifest", "the folder empty/deep is not in the manifest"}));
  fs::remove_all(root / "empty");
  put("b", "abd");
  CHECK(found("\"sub/a\": " + abc + ", \"b\": " + abc).at(0).find("b has sha256 ") == 0);
  put("b", "abcd");
  CHECK(found("\"sub/a\": " + abc + ", \"b\": " + abc).at(0) == "b has 4 bytes, not 3");
  CHECK(found("\"sub/a\": " + abc + ", \"b\": " + abc + ", \"c\": " + abc).back() == "c is missing");
  for (const char *outside : {"../b", "/etc/passwd", "sub/../../b"}) {
    bool threw = false;
    try {
      found("\"" + std::string(outside) + "\": " + abc);
    } catch (const run::Failure &failure) {
      threw = failure.exit_code == 60;
    }
    CHECK(threw);
  }
  const std::string zeros(64, '0'), before = "{\"files\": {}, \"digest\": \"", after = "\"}";
  run::Sha256 hash;
  hash.add((before + zeros + after).data(), before.size() + zeros.size() + after.size());
  const std::string digest = hash.finish();
  const auto changed = [&](const std::string &manifest) {
    put("edgekit.json", manifest);
    const std::vector<std::string> problems = run::differences(root.string(), Json::parse(manifest));
    return std::any_of(problems.begin(), problems.end(), [](const std::string &problem) { return problem.find("edgekit.json was changed: its digest is ") == 0; });
  };
  CHECK(!changed(before + digest + after));
  CHECK(changed(before + digest + " " + after) && changed(before + zeros + after) && changed(before + digest + after + "\n"));
  fs::remove_all(root);
  CHECK(run::format_bytes(1.5e9) == "1.50 GB" && run::format_bytes(97.9e6) == "97.9 MB" && run::format_bytes(512) == "512 B");
}

/* The links of tests/test_links.py. */
void links() {
  namespace fs = std::filesystem;
  const fs::path base = fs::temp_directory_path() / ("edgekit_run_links_" + std::to_string(::getpid())), root = base / "folder";
  fs::remove_all(base);
  fs::create_directories(root / "sub");
  fs::create_directories(base / "outside");
  fs::create_directories(base / "folder-2");
  for (const fs::path &file : {base / "outside" / "secret", root / "file"}) std::ofstream(file) << "content";
  using Found = std::vector<std::pair<std::string, std::string>>;
  const auto found = [&](const std::string &target) {
    fs::create_symlink(target, root / "sub" / "link");
    const Found links = run::find_links(root.string());
    fs::remove(root / "sub" / "link");
    CHECK(links.empty() || (links.size() == 1 && links[0].first == "sub/link"));
    return links.empty() ? "" : links[0].second;
  };
  const std::string file = (root / "file").string();
  for (const std::string &inside : {std::string("../file"), file, std::string(".."), std::string(".")}) CHECK(found(inside).empty());
  for (const std::string &outside : {std::string("../../outside/secret"), std::string("/etc/passwd"), std::string("../.."), std::string("../../folder-2")})
    CHECK(found(outside) == "is a link to " + outside + ", which is outside the folder");
  CHECK(found("nowhere") == "is a link to nowhere, which does not exist" && found("link") == "is a link to link, which leads back to itself");
  fs::create_hard_link(base / "outside" / "secret", root / "sub" / "hard");
  fs::create_symlink(root, base / "name");
  for (const fs::path &name : {root, base / "name", root / "sub" / ".."}) CHECK(run::find_links(name.string()).empty());
  CHECK(::mkfifo((root / "pipe").c_str(), 0600) == 0);
  CHECK(run::find_links(root.string()) == (Found{{"pipe", "is neither a file nor a folder"}}));

  const fs::path repository = base / "models--owner--name", snapshot = repository / "snapshots" / "a1";
  fs::create_directories(snapshot / "sub");
  fs::rename(root, repository / "blobs");
  fs::create_symlink("../../blobs/file", snapshot / "file");
  fs::create_symlink("../../../blobs/file", snapshot / "sub" / "file");
  CHECK(run::find_links(snapshot.string()).empty() && run::find_links((snapshot / "sub").string()).empty());
  fs::create_symlink("../..", snapshot / "repository");
  fs::create_symlink(base / "outside" / "secret", snapshot / "secret");
  CHECK(run::find_links(snapshot.string()).size() == 2);
  try {
    run::refuse_links(snapshot.string());
    CHECK(false);
  } catch (const run::Failure &failure) {
    CHECK(failure.exit_code == 61 && failure.message.find(" is refused: repository is a link to ../.., which is outside the folder; secret is a link") != std::string::npos);
  }
  fs::remove_all(base);
}

}  // namespace

int main() {
  json();
  contexts();
  golden();
  sha256();
  options();
  printer();
  files();
  links();
  return finish("run_test");
}
