import CEdgekit
import Foundation

/// A function of the C API failed.
public struct EdgekitError: Error, CustomStringConvertible {
    public let status: Int32
    public let description: String
}

private func check(_ status: Int32) throws {
    if status != Int32(EK_OK.rawValue) {
        throw EdgekitError(status: status, description: String(cString: ek_last_error()))
    }
}

/// A copy of a text in UTF-8, without a terminator: the text may contain null characters.
private func bytes(of text: String) -> UnsafeMutableBufferPointer<CChar> {
    let copy = UnsafeMutableBufferPointer<CChar>.allocate(capacity: max(1, text.utf8.count))
    for (index, byte) in text.utf8.enumerated() { copy[index] = CChar(bitPattern: byte) }
    return copy
}

public struct Message {
    public var role: String
    public var content: String
    /// Whether the content is everything that the model wrote, with its thought.
    public var whole: Bool

    public init(role: String, content: String, whole: Bool = false) {
        self.role = role
        self.content = content
        self.whole = whole
    }
}

public enum Event {
    case thought(String)
    case answer(String)
    /// Everything that the model wrote, the number of tokens, and whether the answer was cancelled.
    case done(text: String, tokens: Int, cancelled: Bool)
}

/// An open artifact. Any number of threads and sessions may use it.
public final class Model: @unchecked Sendable {
    let model: OpaquePointer
    let text: OpaquePointer

    public init(folder: String) throws {
        if ek_abi_version() != EK_ABI_VERSION {
            throw EdgekitError(
                status: Int32(EK_UNSUPPORTED.rawValue),
                description: "the library has ABI version \(ek_abi_version()); this app needs \(EK_ABI_VERSION)")
        }
        var model: OpaquePointer?
        var text: OpaquePointer?
        try check(ek_model_open(folder, &model))
        do {
            try check(ek_text_open(folder, &text))
        } catch {
            ek_model_close(model)
            throw error
        }
        self.model = model!
        self.text = text!
    }

    deinit {
        ek_text_close(text)
        ek_model_close(model)
    }
}

/// One conversation with its KV cache. Generate one answer at a time; `cancel` may be called from any thread.
public final class Session: @unchecked Sendable {
    private let model: Model
    private let session: OpaquePointer

    public init(model: Model, context: Int? = nil) throws {
        var session: OpaquePointer?
        let tokens = Int64(context ?? min(Int(ek_model_context_length(model.model)), 4096))
        try check(ek_session_create(model.model, tokens, 0, Int32(EK_KV_FLOAT16.rawValue), &session))
        self.model = model
        self.session = session!
    }

    deinit {
        ek_session_free(session)
    }

    /// Ends the answer that is being generated.
    public func cancel() {
        ek_session_cancel(session)
    }

    /// An answer as a stream, generated in a thread of its own. The answer ends when nobody reads the stream any more.
    public func answer(_ messages: [Message], maxTokens: Int = 0) -> AsyncThrowingStream<Event, Error> {
        AsyncThrowingStream { stream in
            stream.onTermination = { [self] reason in
                if case .cancelled = reason { cancel() }
            }
            Task.detached { [self] in
                do {
                    try generate(messages, maxTokens: maxTokens) { event in
                        if case .terminated = stream.yield(event) { return false }
                        return true
                    }
                    stream.finish()
                } catch {
                    stream.finish(throwing: error)
                }
            }
        }
    }

    /// Generates an answer; returns when it is finished. `onEvent` is called in this thread and returns whether to go on.
    public func generate(_ messages: [Message], maxTokens: Int = 0, onEvent: (Event) -> Bool) throws {
        let copies = messages.map { (role: strdup($0.role)!, content: bytes(of: $0.content)) }
        defer { copies.forEach { free($0.role); $0.content.deallocate() } }
        let all = zip(messages, copies).map { message, copy in
            ek_message(
                role: copy.role, content: copy.content.baseAddress, bytes: Int64(message.content.utf8.count),
                whole: message.whole ? 1 : 0)
        }
        try withoutActuallyEscaping(onEvent) { onEvent in
            var receiver = Receiver(onEvent: onEvent)
            try all.withUnsafeBufferPointer { pointer in
                var request = ek_request()
                request.size = Int64(MemoryLayout<ek_request>.size)
                request.messages = pointer.baseAddress
                request.message_count = Int64(pointer.count)
                request.max_tokens = Int64(maxTokens)
                try check(ek_generate(session, model.text, &request, receive, &receiver))
            }
        }
    }
}

private struct Receiver {
    let onEvent: (Event) -> Bool
}

private func string(_ text: UnsafePointer<CChar>, _ bytes: Int64) -> String {
    text.withMemoryRebound(to: UInt8.self, capacity: Int(bytes)) {
        String(decoding: UnsafeBufferPointer(start: $0, count: Int(bytes)), as: UTF8.self)
    }
}

private func receive(_ event: UnsafePointer<ek_event>?, _ context: UnsafeMutableRawPointer?) -> Int32 {
    let event = event!.pointee
    let receiver = context!.assumingMemoryBound(to: Receiver.self).pointee
    switch UInt32(event.kind) {
    case UInt32(EK_EVENT_THOUGHT.rawValue):
        return receiver.onEvent(.thought(string(event.text, event.bytes))) ? 0 : 1
    case UInt32(EK_EVENT_ANSWER.rawValue):
        return receiver.onEvent(.answer(string(event.text, event.bytes))) ? 0 : 1
    case UInt32(EK_EVENT_DONE.rawValue):
        let done = event.completion.pointee
        let cancelled = UInt32(done.finish) == UInt32(EK_FINISH_CANCELLED.rawValue)
        let text = string(done.text, done.text_bytes)
        return receiver.onEvent(.done(text: text, tokens: Int(done.tokens), cancelled: cancelled)) ? 0 : 1
    default:
        return 0
    }
}
