package dev.edgekit;

/** Receives an answer while it is generated. Both methods return whether to go on; false cancels the answer. */
public interface Listener {
  boolean onPiece(Piece piece);

  /** A part of a long prompt was evaluated. */
  default boolean onPrompt(long doneTokens, long allTokens) {
    return true;
  }
}
