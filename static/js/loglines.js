// Lines of a log: text that must not act is shown, lines stay bounded, and no more of them stay in the page than are read.
const CONTROLS = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\u2028\u2029\u115F\u1160\u3164\uFFA0\u2800]/u;
const NAMES = "NUL SOH STX ETX EOT ENQ ACK BEL BS HT LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US".split(" ");
const PICTURES = { "\n": "↵", "\t": "⇥", "\x7f": "DEL" };
const MOST = 2000;

/** What `visible` of the server does: escaped by being text, with characters that act or hide as marked names. */
export function visible(text) {
  if (!CONTROLS.test(text)) return [text];
  const parts = [];
  let plain = "";
  for (const char of text) {
    if (!CONTROLS.test(char)) {
      plain += char;
      continue;
    }
    const code = char.codePointAt(0);
    const name = PICTURES[char] ?? NAMES[code] ?? `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
    parts.push(plain, Object.assign(document.createElement("span"), { className: "ctl", textContent: name }));
    plain = "";
  }
  return [...parts, plain];
}

export class LogLines {
  /** `onDrop` hears when lines leave the page at its top. */
  constructor(node, onDrop) {
    Object.assign(this, { node, onDrop, most: Number(node.dataset.line), open: null, length: 0, text: "", attempt: null, held: "" });
    const last = node.lastElementChild;
    if (last?.dataset.open) this.reopen(last);
    const marks = node.querySelectorAll(".attempt");
    if (marks.length) this.attempt = Number(marks[marks.length - 1].textContent.replace(/\D/g, ""));
  }

  /** The page was made in the middle of this line. */
  reopen(line) {
    this.open = line;
    this.length = Number(line.dataset.open);
    this.fixed = true;
  }

  /** A piece as the stream brings it; it may begin and end anywhere. */
  append({ attempt, text }) {
    const fresh = document.createDocumentFragment();
    if (attempt !== this.attempt) {
      this.close();
      this.attempt = attempt;
      this.held = "";
      fresh.append(make("attempt", [`attempt ${attempt}`]));
    }
    let rest = this.held + text;
    // Whether a carriage return ends a line, or begins the end of one, is known with the next character.
    this.held = rest.endsWith("\r") ? "\r" : "";
    if (this.held) rest = rest.slice(0, -1);
    let lines = rest.split(/\r?\n|(?<=\r)(?!\n)/);
    if (lines.length > MOST + 1) {
      this.close();
      lines = lines.slice(-MOST);
      this.onDrop();
    }
    lines.forEach((line, index) => {
      this.write(line, fresh);
      if (index < lines.length - 1) this.close(fresh);
    });
    this.show();
    this.node.append(fresh);
    this.trim();
  }

  /** More of the open line; what is beyond the limit is counted, not kept. */
  write(text, fresh) {
    if (!text) return;
    if (!this.open) {
      this.open = make("l", []);
      Object.assign(this, { length: 0, text: "", fixed: false });
      fresh.append(this.open);
    }
    if (this.length < this.most) {
      const piece = text.slice(0, this.most - this.length);
      if (this.fixed) this.open.append(...visible(piece));
      else this.text += piece;
    }
    this.length += text.length;
  }

  /** Draws what the open line has come to. */
  show() {
    if (!this.open) return;
    const cut = this.length - this.most;
    if (this.fixed) this.open.querySelector(".cut")?.remove();
    else this.open.replaceChildren(...visible(this.text));
    if (cut > 0) this.open.append(make("cut", [`… ${cut.toLocaleString("en-US")} more characters`], "span"));
  }

  close(fresh = null) {
    if (this.open) this.show();
    // An empty line is a line, too.
    else if (fresh) fresh.append(make("l", []));
    Object.assign(this, { open: null, length: 0, text: "", fixed: false });
  }

  trim() {
    let extra = this.node.childElementCount - MOST;
    if (extra <= 0) return;
    while (extra > 0) {
      this.node.firstElementChild.remove();
      extra -= 1;
    }
    this.onDrop();
  }
}

function make(kind, children, name = "div") {
  const node = Object.assign(document.createElement(name), { className: kind });
  node.append(...children);
  return node;
}
