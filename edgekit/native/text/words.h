/* Splits text into the words that BPE works on, as the regular expressions of tokenizer.json do, but without a regular
 * expression engine: each pattern is a function that finds the end of the next match.
 *
 *   kCl100k   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,n}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
 *             Llama 3 (n is 3), Qwen2, Qwen2.5, Qwen3 and their DeepSeek-R1 distills (n is 1)
 *   kGpt2     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 *   kNumbers  \p{N}, each a word of its own; what is between them is split by the next step (SmolLM2)
 *   kDigits   the same for the pre-tokenizer Digits, which knows a newer Unicode version
 *
 * The text is valid UTF-8. Every function takes time linear in the text. */
#ifndef EDGEKIT_TEXT_WORDS_H
#define EDGEKIT_TEXT_WORDS_H

#include <cstdint>

namespace ek {

enum SplitKind : uint8_t { kNoSplit = 0, kCl100k = 1, kGpt2 = 2, kNumbers = 3, kDigits = 4 };

struct Split {
  SplitKind kind;
  uint8_t numbers; /* kCl100k: the most digits in a word */
};

/* The end of the match that starts at `at`, which is before `end`. */
const uint8_t *word_end(Split split, const uint8_t *at, const uint8_t *end);

}  // namespace ek

#endif
