package dev.edgekit;

/**
 * A pointer of the native library that is never used after it was freed: {@link #close} frees it when no call uses it any
 * more, and later calls throw {@link IllegalStateException}.
 */
abstract class Handle implements AutoCloseable {
  private long pointer;
  private int calls;
  private boolean closed;

  Handle(long pointer) {
    this.pointer = pointer;
  }

  /** The pointer, for one call. {@link #end} must follow. */
  final synchronized long begin() {
    if (closed) throw new IllegalStateException(getClass().getSimpleName() + " is closed");
    ++calls;
    return pointer;
  }

  final synchronized void end() {
    --calls;
    freeIfUnused();
  }

  /** Ends what other threads do with the pointer as soon as possible; the pointer is valid. */
  void interrupt(long valid) {}

  abstract void free(long unused);

  /** Closing twice is allowed, also while a call is in progress. */
  @Override
  public final synchronized void close() {
    if (closed) return;
    closed = true;
    if (calls > 0) interrupt(pointer);
    freeIfUnused();
  }

  private void freeIfUnused() {
    if (!closed || calls > 0 || pointer == 0) return;
    free(pointer);
    pointer = 0;
  }
}
