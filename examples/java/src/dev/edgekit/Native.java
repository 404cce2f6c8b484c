package dev.edgekit;

import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;

/** The functions of jni/edgekit_jni.c. Text crosses as UTF-8. */
final class Native {
  static {
    System.loadLibrary("edgekit_jni");
  }

  private Native() {}

  /** Receives the events of one answer. Each method returns whether to go on. */
  interface Receiver {
    boolean text(byte[] utf8, boolean thought);

    boolean prompt(long done, long total);

    boolean done(int finish, boolean thoughtClosed, byte[] text, int[] promptIds, int[] ids, long reusedTokens,
        long thoughtTokens, double firstTokenSeconds, double tokensPerSecond);
  }

  static native long openModel(byte[] folder);

  static native void closeModel(long model);

  static native long contextLength(long model);

  static native long openText(byte[] folder);

  static native void closeText(long text);

  static native long countTokens(long text, byte[] utf8);

  static native long createSession(long model, long context, int threads, boolean int8Cache);

  static native void freeSession(long session);

  static native void cancel(long session);

  static native void generate(long session, long text, byte[][] roles, byte[][] contents, boolean[] whole, byte[] prompt,
      float[] sampling, int topK, long seed, boolean hasSeed, long maxTokens, long maxThoughtTokens, boolean ignoreStops,
      byte[][] stopTexts, Receiver receiver);

  /** UTF-8 of a string. A surrogate that stands alone becomes U+FFFD, as in the native library; Java would write "?". */
  static byte[] utf8(String text) {
    try {
      ByteBuffer bytes = StandardCharsets.UTF_8.newEncoder()
          .onMalformedInput(CodingErrorAction.REPLACE)
          .replaceWith(new byte[] {(byte) 0xEF, (byte) 0xBF, (byte) 0xBD})
          .encode(CharBuffer.wrap(text));
      byte[] array = new byte[bytes.remaining()];
      bytes.get(array);
      return array;
    } catch (CharacterCodingException impossible) {
      throw new AssertionError(impossible);
    }
  }
}
