package dev.edgekit;

/** An open artifact: its weights and its tokenizer. Any number of threads and sessions may use it. */
public final class Model implements AutoCloseable {
  final Weights weights;
  final Text text;

  /**
   * Opens the artifact in a folder, in milliseconds: weights are mapped, not read.
   *
   * @throws EdgekitException the folder is not an artifact, or this library does not support it
   */
  public Model(String folder) {
    byte[] path = Native.utf8(folder);
    weights = new Weights(Native.openModel(path));
    try {
      text = new Text(Native.openText(path));
    } catch (RuntimeException error) {
      weights.close();
      throw error;
    }
  }

  /** The longest context the model supports, in tokens. */
  public long contextLength() {
    long model = weights.begin();
    try {
      return Native.contextLength(model);
    } finally {
      weights.end();
    }
  }

  /** The number of tokens of a text. */
  public long countTokens(String plain) {
    long handle = text.begin();
    try {
      return Native.countTokens(handle, Native.utf8(plain));
    } finally {
      text.end();
    }
  }

  /** Frees the model. An answer that is being generated goes on; sessions cannot start another one. */
  @Override
  public void close() {
    text.close();
    weights.close();
  }

  static final class Weights extends Handle {
    Weights(long pointer) {
      super(pointer);
    }

    @Override
    void free(long unused) {
      Native.closeModel(unused);
    }
  }

  static final class Text extends Handle {
    Text(long pointer) {
      super(pointer);
    }

    @Override
    void free(long unused) {
      Native.closeText(unused);
    }
  }
}
