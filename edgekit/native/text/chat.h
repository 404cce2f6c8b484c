/* The prompt of a conversation, from pieces of text that the builder has derived from the model's chat template.
 *
 * What a template writes between two messages depends only on their roles, for the templates that can be expressed here. So
 * the format is a table of joints: the text from the beginning to the first message, from each message to the next, and from
 * the last one to the end of the prompt. A joint may contain today's date: a format of strftime between U+E0FE and U+E0FF,
 * with the directives d m Y y b B a A H M S j I p and %. edgekit/build/chat_pieces.py derives it and compares it with the template. */
#ifndef EDGEKIT_TEXT_CHAT_H
#define EDGEKIT_TEXT_CHAT_H

#include <cstdint>
#include <string_view>

#include "edgekit_text.h"

namespace ek {

class Tables;
struct WrittenText;

enum Role : uint32_t { kSystem = 0, kUser = 1, kAssistant = 2, kRoles = 3 };
constexpr uint32_t kEdge = kRoles;              /* the beginning or the end */
constexpr uint32_t kSides = kRoles + 1;
constexpr uint32_t kChatStrings = kSides * kSides; /* the joint from a to b is kSides * a + b; system, user, assistant, edge */

/* The numbers of TextSettings::chat. */
enum ChatNumber : uint32_t {
  kJoints = 0,    /* bit kSides * a + b: the template allows the joint from a to b */
  kTrim = 1,      /* and 2, 3: what the template removes from a role's content: TrimKind of the left, plus 4 times the right */
  kOpensThought = 4, /* 1: a prompt ends inside a thought */
  kAfterThought = 5  /* what is removed between the thought of an earlier answer and the answer: a TrimKind */
};
enum TrimKind : uint32_t { kTrimNothing = 0, kTrimSpace = 1, kTrimNewlines = 2 };

/* The prompt for the next answer. Throws Error: EK_UNSUPPORTED, EK_BAD_ARGUMENT. */
WrittenText render(const Tables &tables, const ek_message *messages, int64_t count);

/* Whether the prompts of an artifact end inside a thought. */
bool opens_thought(const Tables &tables);

}  // namespace ek

#endif
