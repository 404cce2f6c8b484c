import dev.edgekit.Answer
import dev.edgekit.Model
import dev.edgekit.Request
import dev.edgekit.Session
import dev.edgekit.answer
import kotlinx.coroutines.runBlocking

/** A conversation in the terminal. Arguments: ARTIFACT [TOKENS] */
fun main(arguments: Array<String>) = runBlocking {
    Model(arguments[0]).use { model ->
        Session(model).use { session ->
            val request = Request().maxTokens(arguments.getOrNull(1)?.toLong() ?: 1024)
            for (line in generateSequence(::readLine)) {
                request.add("user", line)
                session.answer(request).collect { event ->
                    when (event) {
                        is Answer.Text -> if (!event.piece.thought) print(event.piece.text)
                        is Answer.Done -> {
                            println()
                            System.err.println("[${event.completion.ids.size} tokens, ${event.completion.finish}]")
                            request.add(event.completion)
                        }
                    }
                }
            }
        }
    }
}
