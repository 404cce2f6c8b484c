import dev.edgekit.*
import kotlinx.coroutines.*
import kotlinx.coroutines.flow.*

/** What test_kotlin.py expects of the flow. */
fun main(arguments: Array<String>) = runBlocking {
    val model = Model(arguments[0])
    val session = Session(model, 600, 1, false)
    val request = Request().add("user", "What is 2 + 2?").maxTokens(300).seed(1).ignoreStops()
    val events = session.answer(request).toList()
    val done = (events.last() as Answer.Done).completion
    check(done.ids.size == 300 && events.size > 10)
    check(events.filterIsInstance<Answer.Text>().joinToString("") { it.piece.text } == done.text)

    val first = session.answer(request).first() // cancels the flow after one piece
    check(first is Answer.Text)
    val again = session.answer(request).last() as Answer.Done
    check(again.completion.ids.size == 300) { "the session answers after a cancellation" }

    val thrown = runCatching { session.answer(request).collect { throw ArithmeticException("own") } }
    check(thrown.exceptionOrNull() is ArithmeticException)
    val role = runCatching { session.answer(Request().add("robot", "?")).collect() }
    check(role.exceptionOrNull() is EdgekitException)
    session.close()
    check(runCatching { session.answer(request).collect() }.exceptionOrNull() is IllegalStateException)
    model.close()
    println("all")
}
