package dev.edgekit;

import java.nio.charset.StandardCharsets;

/** A function of the native library failed. */
public final class EdgekitException extends RuntimeException {
  private static final long serialVersionUID = 1;

  /** Values of ek_status in edgekit.h. */
  public static final int BAD_ARGUMENT = 1, BAD_FILE = 3, UNSUPPORTED = 4, NO_MEMORY = 5, CONTEXT = 6, BUSY = 9;

  private final int status;

  /** Called by the native code, with ek_last_error in UTF-8. */
  EdgekitException(int status, byte[] message) {
    super(new String(message, StandardCharsets.UTF_8));
    this.status = status;
  }

  public int status() {
    return status;
  }
}
