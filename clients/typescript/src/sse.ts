/** A message of a stream of server-sent events. */
export interface Message {
    /** Its id, if it has one of its own. */
    id: string | undefined;
    /** Its type: `message` where it is unnamed. */
    event: string;
    /** Its data. */
    data: string;
    /** Milliseconds that the server asks to wait before the next connection. */
    retry: number | undefined;
}

/**
 * Cuts a stream of bytes into messages, as the HTML standard says. `heard` is called for everything that arrives,
 * comments (heartbeats) included.
 */
export async function* messages(
    body: ReadableStream<Uint8Array>,
    heard: () => void,
): AsyncGenerator<Message, void, undefined> {
    const reader = body.getReader();
    const decoder = new TextDecoder("utf-8");
    let rest = "";
    let fields = new Fields();
    try {
        for (;;) {
            const { done, value } = await reader.read();
            if (done) return; // What is not ended by a blank line is not a message.
            heard();
            rest += decoder.decode(value, { stream: true });
            const [lines, unfinished] = split(rest);
            rest = unfinished;
            for (const line of lines) {
                if (line !== "") {
                    fields.take(line);
                    continue;
                }
                const message = fields.message();
                fields = new Fields();
                if (message !== undefined) yield message;
            }
        }
    } finally {
        // Whoever stops reading closes the connection.
        await reader.cancel().catch(() => undefined);
    }
}

/** The lines that are whole, and what follows them. A last CR may be half of a CRLF. */
function split(text: string): [string[], string] {
    const lines: string[] = [];
    let begin = 0;
    for (let at = 0; at < text.length; at++) {
        const character = text[at];
        if (character === "\n") {
            lines.push(text.slice(begin, at));
            begin = at + 1;
        } else if (character === "\r") {
            if (at + 1 === text.length) break;
            lines.push(text.slice(begin, at));
            if (text[at + 1] === "\n") at++;
            begin = at + 1;
        }
    }
    return [lines, text.slice(begin)];
}

class Fields {
    private id: string | undefined;
    private event = "";
    private data: string[] = [];
    private retry: number | undefined;

    take(line: string): void {
        const colon = line.indexOf(":");
        if (colon === 0) return;
        const name = colon < 0 ? line : line.slice(0, colon);
        const rest = colon < 0 ? "" : line.slice(colon + 1);
        const value = rest.startsWith(" ") ? rest.slice(1) : rest;
        if (name === "data") this.data.push(value);
        else if (name === "event") this.event = value;
        else if (name === "id" && !value.includes("\0")) this.id = value;
        else if (name === "retry" && /^\d+$/.test(value)) this.retry = Number(value);
    }

    message(): Message | undefined {
        if (this.data.length === 0 && this.retry === undefined) return undefined;
        return { id: this.id, event: this.event || "message", data: this.data.join("\n"), retry: this.retry };
    }
}
