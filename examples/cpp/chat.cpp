/* A conversation in the terminal, in C++.
 *
 *   ./chat ARTIFACT [TOKENS]
 *
 * The answer is generated in a thread of its own, as in a program with a user interface. Ctrl-C ends an answer, and the
 * program if there is none.
 */
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <edgekit.hpp>
#include <future>
#include <iostream>
#include <string>
#include <string_view>

namespace {

volatile std::sig_atomic_t answering = 0, interrupted = 0;

void on_interrupt(int) {
  if (!answering) std::_Exit(130);
  interrupted = 1;
}

/* Prints the text of an answer. A thought goes to standard error. */
bool print(const ek_event &event) {
  const std::string_view text(event.text, static_cast<std::size_t>(event.bytes));
  if (event.kind == EK_EVENT_THOUGHT) std::cerr << text;
  if (event.kind == EK_EVENT_ANSWER) std::cout << text << std::flush;
  return true;
}

int chat(const std::string &artifact, std::int64_t max_tokens) {
  edgekit::Session session(std::make_shared<edgekit::Model>(artifact));
  edgekit::Request request;
  request.max_tokens = max_tokens;
  std::string line;
  while (std::cerr << "> ", std::getline(std::cin, line)) {
    if (line.empty()) continue;
    request.messages.push_back({"user", line});
    interrupted = 0;
    answering = 1;
    auto answer = std::async(std::launch::async, [&] { return session.generate(request, print); });
    while (answer.wait_for(std::chrono::milliseconds(50)) != std::future_status::ready)
      if (interrupted) session.cancel();
    answering = 0;
    const edgekit::Answer done = answer.get();  // throws what the thread has thrown
    std::cout << "\n" << std::flush;
    std::cerr << "[" << done.ids.size() << " tokens, the first after " << done.ttft_s << " s, then " << done.decode_tok_s
              << " per second" << (done.finish == EK_FINISH_CANCELLED ? "; cancelled" : "") << "]\n";
    request.messages.push_back({"assistant", done.text, true});
  }
  return 0;
}

}  // namespace

int main(int argc, char **argv) {
  if (argc < 2 || argc > 3) {
    std::cerr << "usage: chat ARTIFACT [TOKENS]\n";
    return 2;
  }
  std::signal(SIGINT, on_interrupt);
  try {
    return chat(argv[1], argc == 3 ? std::stoll(argv[2]) : 1024);
  } catch (const std::exception &error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
