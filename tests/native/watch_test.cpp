/* Tests the watch: budgets, the ways out of loops, and the C API. */
#include "text/watch.h"

#include <cmath>
#include <string>

#include "check.h"
#include "edgekit_text.h"

namespace {

using namespace ek;

/* The actions of `count` pushes, each written once while it lasts. */
std::string actions(Watch &watch, int count, int period, bool in_thought) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    const char action = "-E$L"[watch.push(i % period, in_thought)];
    if (text.empty() || text.back() != action) text += action;
  }
  return text;
}

void budgets() {
  Watch inside(3, EK_GUARD_OFF, true);
  CHECK(inside.push(1, true) == EK_WATCH_GO_ON && inside.push(2, true) == EK_WATCH_GO_ON);
  CHECK(inside.push(3, true) == EK_WATCH_CLOSE_SPENT && inside.push(4, true) == EK_WATCH_CLOSE_SPENT);
  CHECK(inside.push(5, false) == EK_WATCH_GO_ON && inside.push(6, false) == EK_WATCH_GO_ON);
  Watch opened(2, EK_GUARD_OFF, false); /* the model opens the thought: its tag does not count */
  CHECK(opened.push(1, false) == EK_WATCH_GO_ON && opened.push(2, true) == EK_WATCH_GO_ON && opened.push(3, true) == EK_WATCH_GO_ON);
  CHECK(opened.push(4, true) == EK_WATCH_CLOSE_SPENT && opened.loops() == 0);
  Watch none(0, EK_GUARD_OFF, true);
  CHECK(actions(none, 5000, 20, true) == "-");
}

void loops() {
  Watch thought(0, EK_GUARD_THOUGHT, true);
  CHECK(actions(thought, 200, 20, true) == "-" && !thought.adjusts());
  CHECK(actions(thought, 140, 20, true) == "-" && thought.adjusts() && thought.loops() == 1);
  float logits[40];
  for (int i = 0; i < 40; ++i) logits[i] = i < 10 ? -2.0f : 6.0f;
  thought.adjust(logits, 40);
  CHECK(logits[0] < -2.0f && logits[15] < 6.0f && logits[15] > 3.0f && logits[20] == 6.0f);
  CHECK(actions(thought, 300, 20, true) == "-L" && !thought.adjusts() && thought.loops() == 2);
  float same = 5.0f;
  thought.adjust(&same, 1);
  CHECK(same == 5.0f);

  Watch other(0, EK_GUARD_THOUGHT, true); /* a second loop much later is a new one */
  CHECK(actions(other, 340, 20, true) == "-" && other.loops() == 1);
  for (int i = 0; i < 2100; ++i) CHECK(other.push(1000 + i, true) == EK_WATCH_GO_ON);
  CHECK(actions(other, 340, 20, true) == "-" && other.loops() == 2);

  Watch answer(0, EK_GUARD_THOUGHT, false);
  CHECK(actions(answer, 5000, 20, false) == "-" && answer.loops() == 0);
  Watch all(0, EK_GUARD_ALL, false);
  CHECK(actions(all, 1200, 20, false) == "-" && all.loops() == 0);
  CHECK(actions(all, 1200, 20, false) == "-E" && all.loops() == 2);
  Watch fresh(0, EK_GUARD_ALL, true); /* what the thought said may be said again */
  CHECK(actions(fresh, 300, 20, true) == "-" && fresh.push(7, false) == EK_WATCH_GO_ON && actions(fresh, 900, 20, false) == "-");
  CHECK(fresh.loops() == 0);
}

void closings() {
  const std::string spent = thought_closing(EK_WATCH_CLOSE_SPENT, ""), loop = thought_closing(EK_WATCH_CLOSE_LOOP, "");
  CHECK(spent != loop && spent.substr(spent.size() - 12) == ".\n</think>\n\n");
  CHECK(thought_closing(EK_WATCH_CLOSE_SPENT, "so 4") == "\n\n" + spent && thought_closing(EK_WATCH_CLOSE_SPENT, "4.\n") == "\n" + spent);
  CHECK(thought_closing(EK_WATCH_CLOSE_SPENT, "4.\n\n") == spent && thought_closing(EK_WATCH_CLOSE_SPENT, "\n") == "\n" + spent);
  char text[200];
  int64_t size = 0;
  CHECK(ek_thought_closing(EK_WATCH_CLOSE_LOOP, "x", -1, text, sizeof text, &size) == EK_OK && std::string(text) == "\n\n" + loop);
  CHECK(size == static_cast<int64_t>(loop.size()) + 2 && ek_thought_closing(0, "", -1, text, sizeof text, &size) == EK_BAD_ARGUMENT);
}

void arguments() {
  ek_watch *watch = nullptr;
  int32_t action = -1;
  float logit = 1;
  CHECK(ek_watch_create(-1, 0, 0, &watch) == EK_BAD_ARGUMENT && ek_watch_create(0, 3, 0, &watch) == EK_BAD_ARGUMENT);
  CHECK(std::string(ek_last_error()).find("the loop guard is 3") == 0 && ek_watch_create(0, 0, 0, nullptr) == EK_BAD_ARGUMENT);
  CHECK(ek_watch_create(1, EK_GUARD_ALL, 1, &watch) == EK_OK && ek_watch_push(watch, 1, 1, &action) == EK_OK);
  CHECK(action == EK_WATCH_CLOSE_SPENT && ek_watch_adjust(watch, &logit, 1) == EK_OK && logit == 1 && ek_watch_loops(watch) == 0);
  CHECK(ek_watch_push(nullptr, 1, 1, &action) == EK_BAD_ARGUMENT && ek_watch_adjust(watch, nullptr, 1) == EK_BAD_ARGUMENT);
  CHECK(ek_watch_loops(nullptr) == 0);
  ek_watch_free(watch);
  ek_watch_free(nullptr);
}

}  // namespace

int main() {
  budgets();
  loops();
  closings();
  arguments();
  return finish("watch_test");
}
