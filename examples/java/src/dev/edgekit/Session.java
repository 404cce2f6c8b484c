package dev.edgekit;

import java.nio.charset.StandardCharsets;

/**
 * One conversation with its KV cache. One answer at a time: a second thread gets an {@link EdgekitException} with the status
 * BUSY. {@link #cancel} and {@link #close} may be called at any time, also by a listener.
 */
public final class Session extends Handle {
  private final Model model;

  /** A session with the model's context, but at most 4096 tokens, one thread for each fast core, and a float16 cache. */
  public Session(Model model) {
    this(model, Math.min(model.contextLength(), 4096), 0, false);
  }

  /**
   * @param context the most tokens of prompt and answer together
   * @param threads compute threads; 0: one for each fast core
   * @param int8Cache a cache of half the size
   */
  public Session(Model model, long context, int threads, boolean int8Cache) {
    super(create(model, context, threads, int8Cache));
    this.model = model;
  }

  private static long create(Model model, long context, int threads, boolean int8Cache) {
    long weights = model.weights.begin();
    try {
      return Native.createSession(weights, context, threads, int8Cache);
    } finally {
      model.weights.end();
    }
  }

  /**
   * Generates an answer; returns when it is finished or cancelled. An exception that the listener throws ends the answer and
   * is thrown from here.
   *
   * @param listener called in this thread; may be null
   * @throws EdgekitException the request is not valid, or too long for the context, or another thread generates
   * @throws IllegalStateException the session or its model is closed
   */
  public Completion generate(Request request, Listener listener) {
    Receiver receiver = new Receiver(listener);
    long session = begin();
    try {
      long text = model.text.begin();
      try {
        Sampling sampling = request.sampling;
        Native.generate(session, text, request.roles(), request.contents(), request.whole(),
            request.prompt == null ? null : Native.utf8(request.prompt), sampling == null ? null : sampling.numbers(),
            sampling == null ? 0 : sampling.topK, request.seed == null ? 0 : request.seed, request.seed != null,
            request.maxTokens, request.maxThoughtTokens, request.ignoreStops, request.stops(), receiver);
      } finally {
        model.text.end();
      }
    } finally {
      end();
    }
    return receiver.completion;
  }

  /** Ends the answer that is being generated, if there is one. {@link #generate} then returns it as it is. */
  public void cancel() {
    long session = begin();
    try {
      Native.cancel(session);
    } finally {
      end();
    }
  }

  @Override
  void interrupt(long valid) {
    Native.cancel(valid);
  }

  @Override
  void free(long unused) {
    Native.freeSession(unused);
  }

  private static final class Receiver implements Native.Receiver {
    private final Listener listener;
    Completion completion;

    Receiver(Listener listener) {
      this.listener = listener;
    }

    @Override
    public boolean text(byte[] utf8, boolean thought) {
      return listener == null || listener.onPiece(new Piece(new String(utf8, StandardCharsets.UTF_8), thought));
    }

    @Override
    public boolean prompt(long done, long total) {
      return listener == null || listener.onPrompt(done, total);
    }

    @Override
    public boolean done(int finish, boolean thoughtClosed, byte[] text, int[] promptIds, int[] ids, long reusedTokens,
        long thoughtTokens, double firstTokenSeconds, double tokensPerSecond) {
      completion = new Completion(Completion.Finish.values()[finish], thoughtClosed, new String(text, StandardCharsets.UTF_8),
          promptIds, ids, reusedTokens, thoughtTokens, firstTokenSeconds, tokensPerSecond);
      return true;
    }
  }
}
