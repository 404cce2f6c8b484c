package dev.edgekit

import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.channels.awaitClose
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.buffer
import kotlinx.coroutines.flow.callbackFlow
import kotlinx.coroutines.launch

/** What a flow of [answer] emits: pieces of text, and the finished answer as the last value. */
sealed interface Answer {
    class Text(val piece: Piece) : Answer
    class Done(val completion: Completion) : Answer
}

/**
 * An answer as a flow. It is generated on [Dispatchers.IO] when the flow is collected. Cancelling the collector cancels
 * the answer.
 */
fun Session.answer(request: Request): Flow<Answer> = callbackFlow {
    launch(Dispatchers.IO) {
        try {
            val completion = generate(request) { piece -> trySend(Answer.Text(piece)).isSuccess } // fails after a cancellation
            trySend(Answer.Done(completion))
            close()
        } catch (error: RuntimeException) {
            close(error)
        }
    }
    awaitClose {
        try {
            cancel()
        } catch (closed: IllegalStateException) {
            // the session was closed, which has cancelled the answer
        }
    }
}.buffer(Channel.UNLIMITED) // an answer is as short as the context
