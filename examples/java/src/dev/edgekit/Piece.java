package dev.edgekit;

/** A piece of an answer: whole characters. */
public final class Piece {
  public final String text;

  /** Whether it belongs to the thought. */
  public final boolean thought;

  public Piece(String text, boolean thought) {
    this.text = text;
    this.thought = thought;
  }
}
