package dev.edgekit.sample

import android.os.Bundle
import android.widget.Button
import android.widget.EditText
import android.widget.LinearLayout
import android.widget.ScrollView
import android.widget.TextView
import androidx.activity.ComponentActivity
import androidx.lifecycle.lifecycleScope
import dev.edgekit.Answer
import dev.edgekit.EdgekitException
import dev.edgekit.Model
import dev.edgekit.Request
import dev.edgekit.Session
import dev.edgekit.answer
import java.io.File
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.Job
import kotlinx.coroutines.launch
import kotlinx.coroutines.withContext

/** A conversation. The artifact is in the app's external files, in the folder "artifact": README.md says how to copy it. */
class ChatActivity : ComponentActivity() {
    private lateinit var output: TextView
    private lateinit var button: Button
    private val request = Request().maxTokens(512)
    private var model: Model? = null
    private var session: Session? = null
    private var answering: Job? = null

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        output = TextView(this)
        val question = EditText(this).apply { setText(R.string.question) }
        button = Button(this).apply { setText(R.string.ask) }
        button.setOnClickListener {
            // A cancelled session still gives Answer.Done, with what was answered until then.
            if (answering?.isActive == true) session?.cancel() ?: answering?.cancel() else ask(question.text.toString())
        }
        setContentView(LinearLayout(this).apply {
            orientation = LinearLayout.VERTICAL
            fitsSystemWindows = true
            addView(question)
            addView(button)
            addView(ScrollView(context).apply { addView(output) })
        })
    }

    private fun ask(question: String) {
        request.add("user", question)
        output.append("\n> $question\n")
        button.setText(R.string.stop)
        answering = lifecycleScope.launch {
            var answered = false
            try {
                open().answer(request).collect { event ->
                    when (event) {
                        is Answer.Text -> if (!event.piece.thought) output.append(event.piece.text)
                        is Answer.Done -> {
                            request.add(event.completion)
                            answered = true
                        }
                    }
                }
            } catch (error: EdgekitException) {
                output.append("\n${error.message}\n")
            } finally {
                if (!answered) request.removeLast()
                button.setText(R.string.ask)
            }
        }
    }

    /** The session; opening the files takes milliseconds, the first time on a phone a little longer. */
    private suspend fun open(): Session = session ?: withContext(Dispatchers.IO) {
        val opened = Model(File(getExternalFilesDir(null), "artifact").path)
        model = opened
        Session(opened).also { session = it }
    }

    override fun onDestroy() {
        session?.close() // ends an answer that is being generated
        model?.close()
        super.onDestroy()
    }
}
