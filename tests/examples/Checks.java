import dev.edgekit.Completion;
import dev.edgekit.Completion.Finish;
import dev.edgekit.EdgekitException;
import dev.edgekit.Listener;
import dev.edgekit.Model;
import dev.edgekit.Request;
import dev.edgekit.Session;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicReference;

/** What test_java.py expects of the classes. Prints the name of each check. */
public final class Checks {
  private static void expect(boolean holds, String name) {
    System.out.println((holds ? "ok " : "FAILED ") + name);
    if (!holds) System.exit(1);
  }

  private static <T extends Throwable> T thrown(Class<T> type, Runnable code) {
    try {
      code.run();
    } catch (Throwable found) {
      if (type.isInstance(found)) return type.cast(found);
      throw new AssertionError("expected " + type, found);
    }
    throw new AssertionError("expected " + type);
  }

  private static Request request(long tokens) {
    return new Request().add("user", "What is 2 + 2?").maxTokens(tokens).seed(1).ignoreStops();
  }

  private static void await(CountDownLatch latch) {
    try {
      latch.await();
    } catch (InterruptedException error) {
      throw new AssertionError(error);
    }
  }

  private static void answers(Session session) {
    StringBuilder pieces = new StringBuilder();
    Completion answer = session.generate(request(300), piece -> {
      pieces.append(piece.text);
      return true;
    });
    expect(answer.finish == Finish.LENGTH && answer.ids.length == 300, "an answer of many pieces");
    expect(answer.text.contentEquals(pieces), "the pieces are the text");
    Request next = request(5).add(answer).add("user", "And \uD800 3?\0");
    expect(session.generate(next, null).promptIds.length > answer.promptIds.length, "a conversation, without a listener");
    expect(session.generate(new Request("2 + 2").maxTokens(1).ignoreStops(), null).ids.length == 1, "a text to continue");
  }

  private static void exceptions(Session session) {
    int[] pieces = {0};
    ArithmeticException own = new ArithmeticException("own");
    Listener throwing = piece -> {
      ++pieces[0];
      throw own;
    };
    expect(thrown(ArithmeticException.class, () -> session.generate(request(20), throwing)) == own, "a listener throws");
    expect(pieces[0] == 1, "no event follows");
    expect(session.generate(request(20), null).ids.length == 20, "the session answers after an exception");
    EdgekitException role = thrown(EdgekitException.class,
        () -> session.generate(new Request().add("robot", "?"), null));
    expect(role.status() == EdgekitException.BAD_ARGUMENT && role.getMessage().contains("robot"), "an unknown role");
    thrown(EdgekitException.class, () -> session.generate(new Request(), null));
    thrown(IllegalArgumentException.class, () -> new Request().stopAt("a\0b"));
    EdgekitException folder = thrown(EdgekitException.class, () -> new Model("/no/such \uD83D\uDE00"));
    expect(folder.status() == EdgekitException.BAD_FILE && folder.getMessage().contains("\uD83D\uDE00"), "no such folder");
  }

  private static void cancels(Session session) throws InterruptedException {
    Completion answer = session.generate(request(300), piece -> false);
    expect(answer.finish == Finish.CANCELLED && answer.ids.length < 300, "a listener returns false");
    answer = session.generate(request(300), piece -> {
      session.cancel();
      return true;
    });
    expect(answer.finish == Finish.CANCELLED && answer.ids.length < 300, "a listener cancels");

    CountDownLatch started = new CountDownLatch(1), cancelled = new CountDownLatch(1);
    AtomicReference<EdgekitException> busy = new AtomicReference<>();
    Thread other = new Thread(() -> {
      await(started);
      busy.set(thrown(EdgekitException.class, () -> session.generate(request(1), null)));
      session.cancel();
      cancelled.countDown();
    });
    other.start();
    answer = session.generate(request(300), piece -> {
      started.countDown();
      await(cancelled);
      return true;
    });
    other.join();
    expect(answer.finish == Finish.CANCELLED && answer.ids.length < 300, "another thread cancels");
    expect(busy.get().status() == EdgekitException.BUSY, "a second answer at the same time");
  }

  private static void closes(Model model) {
    Session session = new Session(model, 400, 1, true);
    Completion answer = session.generate(request(300), piece -> {
      session.close();
      return true;
    });
    expect(answer.finish == Finish.CANCELLED, "a listener closes the session");
    session.close();
    thrown(IllegalStateException.class, () -> session.generate(request(1), null));
    thrown(IllegalStateException.class, session::cancel);
    Session orphan = new Session(model, 400, 1, false);
    model.close();
    thrown(IllegalStateException.class, () -> orphan.generate(request(1), null));
    thrown(IllegalStateException.class, () -> model.countTokens("a"));
    thrown(IllegalStateException.class, () -> new Session(model, 400, 1, false));
    orphan.close();
    model.close();
    expect(true, "closed objects");
  }

  public static void main(String[] arguments) throws InterruptedException {
    Model model = new Model(arguments[0]);
    expect(model.countTokens("a\uD800b\uDC00") == model.countTokens("a\uFFFDb\uFFFD"), "surrogates that stand alone");
    expect(model.countTokens("a\0b") > model.countTokens("a"), "a NUL is a character");
    try (Session session = new Session(model, 600, 1, false)) {
      answers(session);
      exceptions(session);
      cancels(session);
    }
    closes(model);
    System.out.println("all");
  }
}
