import Edgekit
import Foundation

// A conversation in the terminal: swift run chat ARTIFACT
let session = try Session(model: Model(folder: CommandLine.arguments[1]))
var messages: [Message] = []
while let line = readLine() {
    messages.append(Message(role: "user", content: line))
    for try await event in session.answer(messages, maxTokens: 1024) {
        switch event {
        case .thought:
            break
        case .answer(let text):
            print(text, terminator: "")
            fflush(stdout)
        case .done(let text, let tokens, _):
            print("\n[\(tokens) tokens]")
            messages.append(Message(role: "assistant", content: text, whole: true))
        }
    }
}
