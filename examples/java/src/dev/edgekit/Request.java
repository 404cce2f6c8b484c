package dev.edgekit;

import java.util.ArrayList;
import java.util.List;

/** What to generate: the next answer of a conversation, or the continuation of a text. Methods return the request. */
public final class Request {
  final String prompt;
  Sampling sampling;
  Long seed;
  long maxTokens;
  long maxThoughtTokens;
  boolean ignoreStops;
  private final List<Object[]> messages = new ArrayList<>();
  private final List<String> stopTexts = new ArrayList<>();

  /** A conversation; add messages. */
  public Request() {
    prompt = null;
  }

  /** The continuation of a text. */
  public Request(String prompt) {
    this.prompt = prompt;
  }

  /** Adds a message. The role is "system", "user" or "assistant". */
  public Request add(String role, String content) {
    messages.add(new Object[] {role, content, false});
    return this;
  }

  /** Adds an answer of the model to the conversation. */
  public Request add(Completion answer) {
    messages.add(new Object[] {"assistant", answer.text, true});
    return this;
  }

  /** Removes the last message, such as a question that got no answer. */
  public Request removeLast() {
    if (!messages.isEmpty()) messages.remove(messages.size() - 1);
    return this;
  }

  /** By default the artifact's. */
  public Request sampling(Sampling value) {
    sampling = value;
    return this;
  }

  /**
   * Seeds the sampler: the same calls on a new session then give the same answers on the same machine. By default a fresh
   * seed is drawn.
   */
  public Request seed(long value) {
    seed = value;
    return this;
  }

  /** 0: until the model stops or the context is full. */
  public Request maxTokens(long value) {
    maxTokens = value;
    return this;
  }

  /** The most tokens of a thought; 0: no limit. */
  public Request maxThoughtTokens(long value) {
    maxThoughtTokens = value;
    return this;
  }

  /** A text that ends the answer. */
  public Request stopAt(String text) {
    if (text.indexOf('\0') >= 0) throw new IllegalArgumentException("a stop text has a NUL character: " + text);
    stopTexts.add(text);
    return this;
  }

  /** The artifact's stops do not end the answer, to measure speed. */
  public Request ignoreStops() {
    ignoreStops = true;
    return this;
  }

  byte[][] roles() {
    return texts(0);
  }

  byte[][] contents() {
    return texts(1);
  }

  boolean[] whole() {
    boolean[] found = new boolean[messages.size()];
    for (int i = 0; i < found.length; ++i) found[i] = (Boolean) messages.get(i)[2];
    return found;
  }

  byte[][] stops() {
    byte[][] found = new byte[stopTexts.size()][];
    for (int i = 0; i < found.length; ++i) found[i] = Native.utf8(stopTexts.get(i));
    return found;
  }

  private byte[][] texts(int column) {
    byte[][] found = new byte[messages.size()][];
    for (int i = 0; i < found.length; ++i) found[i] = Native.utf8((String) messages.get(i)[column]);
    return found;
  }
}
