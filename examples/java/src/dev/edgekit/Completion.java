package dev.edgekit;

/** A finished or cancelled answer with its figures. ek_completion in edgekit_text.h describes the fields. */
public final class Completion {
  /** Why it ended. The order is that of ek_finish. */
  public enum Finish { STOP, LENGTH, CONTEXT, CANCELLED, LOOP }

  public final Finish finish;
  public final boolean thoughtClosed;

  /** Everything that the model wrote. {@link Request#add(Completion)} adds it to a conversation. */
  public final String text;

  public final int[] promptIds;
  public final int[] ids;
  public final long reusedTokens;
  public final long thoughtTokens;
  public final double firstTokenSeconds;
  public final double tokensPerSecond;

  Completion(Finish finish, boolean thoughtClosed, String text, int[] promptIds, int[] ids, long reusedTokens,
      long thoughtTokens, double firstTokenSeconds, double tokensPerSecond) {
    this.finish = finish;
    this.thoughtClosed = thoughtClosed;
    this.text = text;
    this.promptIds = promptIds;
    this.ids = ids;
    this.reusedTokens = reusedTokens;
    this.thoughtTokens = thoughtTokens;
    this.firstTokenSeconds = firstTokenSeconds;
    this.tokensPerSecond = tokensPerSecond;
  }
}
