import dev.edgekit.Completion;
import dev.edgekit.Model;
import dev.edgekit.Request;
import dev.edgekit.Session;
import java.util.Scanner;

/** A conversation in the terminal: java -Djava.library.path=build -cp build/edgekit.jar Chat ARTIFACT [TOKENS] */
public final class Chat {
  public static void main(String[] arguments) {
    try (Model model = new Model(arguments[0]);
        Session session = new Session(model);
        Scanner input = new Scanner(System.in, "UTF-8")) {
      Request request = new Request().maxTokens(arguments.length > 1 ? Long.parseLong(arguments[1]) : 1024);
      while (input.hasNextLine()) {
        request.add("user", input.nextLine());
        Completion answer = session.generate(request, piece -> {
          (piece.thought ? System.err : System.out).print(piece.text);
          System.out.flush();
          return true; // false cancels the answer
        });
        System.out.println();
        System.err.printf("[%d tokens, the first after %.2f s, then %.1f per second]%n", answer.ids.length,
            answer.firstTokenSeconds, answer.tokensPerSecond);
        request.add(answer);
      }
    }
  }
}
