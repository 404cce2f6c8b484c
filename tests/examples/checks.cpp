/* What test_cpp.py expects of edgekit.hpp: exceptions, cancelling, closing, errors. Prints the name of each check. */
#include <edgekit.hpp>
#include <iostream>
#include <thread>

namespace {

void expect(bool holds, const char *name) {
  std::cout << (holds ? "ok " : "FAILED ") << name << std::endl;
  if (!holds) std::exit(1);
}

struct Thrown {
  int value;
};

}  // namespace

int main(int, char **argv) {
  const auto model = std::make_shared<edgekit::Model>(argv[1]);
  edgekit::Session session(model);
  edgekit::Request request;
  request.messages = {{"user", "What is 2 + 2?"}};
  request.max_tokens = 20;
  request.seed = 1;
  request.ignore_stops = true;
  const edgekit::Answer whole = session.generate(request);
  expect(whole.finish == EK_FINISH_LENGTH && whole.ids.size() == 20, "an answer without a callback");

  int events = 0;
  try {
    session.generate(request, [&](const ek_event &) -> bool { throw Thrown{++events}; });
    expect(false, "an exception of the callback arrives");
  } catch (const Thrown &thrown) {
    expect(thrown.value == 1, "an exception of the callback arrives, and no event follows it");
  }
  expect(session.generate(request).ids.size() == 20, "the session answers after an exception");

  auto cancelled = session.generate(request, [&](const ek_event &event) { return event.kind == EK_EVENT_DONE; });
  expect(cancelled.finish == EK_FINISH_CANCELLED && cancelled.ids.size() < 20, "a callback that returns false ends the answer");
  cancelled = session.generate(request, [&](const ek_event &) { return session.cancel(), true; });
  expect(cancelled.finish == EK_FINISH_CANCELLED && cancelled.ids.size() < 20, "a callback may cancel");

  int status = EK_OK;
  session.generate(request, [&](const ek_event &event) {
    if (event.kind != EK_EVENT_ANSWER || status != EK_OK) return true;
    try {
      session.generate(request);
    } catch (const edgekit::Error &error) {
      status = error.status();
    }
    return true;
  });
  expect(status == EK_BUSY, "a second answer at the same time is an error");

  try {
    edgekit::Model missing("/no/such/folder");
    expect(false, "a folder that is no artifact");
  } catch (const edgekit::Error &error) {
    expect(error.status() == EK_BAD_FILE && std::string(error.what()).find("/no/such/folder") != std::string::npos,
           "a folder that is no artifact");
  }
  request.messages = {{"user", "\xff\xfe invalid \xc3"}, {"robot", "?"}};
  try {
    session.generate(request);
    expect(false, "a role that does not exist");
  } catch (const edgekit::Error &error) {
    expect(error.status() == EK_BAD_ARGUMENT, "a role that does not exist");
  }
  request.messages.pop_back();
  expect(session.generate(request).ids.size() == 20, "invalid UTF-8 is not an error");
  expect(model->encode("2 + 2").size() > 1, "token ids");
  std::cout << "all\n";
}
