// The chat page: it shows the dialogs by asking the control API once a second, and writes as the chosen person.

const PAUSE = 1000;
const PATIENCE = 5; // seconds without an answer after which the page says something
const words = document.body.dataset;
const people = document.querySelector("#people");
const thread = document.querySelector("#thread");
const keyboard = document.querySelector("#keyboard");
const notice = document.querySelector("#notice");
const state = document.querySelector("#state");
const write = document.querySelector("#write");
const newcomer = document.querySelector("#newcomer");

let chosen = Number(location.hash.slice(1));
let messages = [];

async function call(path, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(`control/${path}`, options);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

function say(text, seconds) {
  if (notice.textContent !== text) notice.textContent = text;
  notice.hidden = !text;
  if (seconds) setTimeout(() => notice.textContent === text && say(""), seconds * 1000);
}

// ---- people

function showPeople(items) {
  if (!items.some((person) => person.id === chosen)) chosen = items[0].id;
  const known = new Map([...people.children].map((entry) => [Number(entry.dataset.id), entry]));
  for (const person of items) {
    const name = `${person.first_name} ${person.last_name}`.trim();
    let entry = known.get(person.id);
    if (!entry) {
      const avatar = make("span", { className: `avatar tint${person.id % 4}`, ariaHidden: "true" }, person.first_name[0]);
      const button = make("button", { type: "button", onclick: () => choose(person.id) }, avatar, make("b", {}, name), make("small"));
      entry = make("li", {}, button);
      entry.dataset.id = person.id;
      people.append(entry);
    }
    entry.firstChild.setAttribute("aria-current", person.id === chosen);
    entry.querySelector("small").textContent = person.last_message?.text ?? words.silent;
  }
}

function choose(id) {
  chosen = id;
  history.replaceState(null, "", `#${id}`);
  messages = [];
  thread.replaceChildren();
  keyboard.replaceChildren();
  say("");
  for (const entry of people.children) entry.firstChild.setAttribute("aria-current", Number(entry.dataset.id) === id);
  look();
}

newcomer.querySelector("form").onsubmit = (event) => {
  event.preventDefault();
  act(async () => {
    const person = await call("people", Object.fromEntries(new FormData(event.target)));
    event.target.reset();
    newcomer.open = false;
    choose(person.id);
    write.text.focus();
  });
};

// ---- messages

function showMessage(message) {
  const article = make("article", {}, make("p", {}, message.text));
  article.dataset.from = message.out ? "community" : "person";
  for (const { photo } of message.attachments.filter((each) => each.type === "photo")) {
    article.append(make("img", { src: photo.sizes.at(-1).url, alt: words.picture, onload: scrollDown }));
  }
  if (message.keyboard?.inline) {
    article.append(make("div", { className: "buttons" }, ...rows(message.keyboard, message)));
  }
  const date = new Date(message.date * 1000);
  const time = date.toLocaleTimeString(document.documentElement.lang, { hour: "2-digit", minute: "2-digit" });
  article.append(make("time", { dateTime: date.toISOString() }, time));
  return article;
}

function scrollDown() {
  thread.scrollTop = thread.scrollHeight;
}
// a notice or a keyboard below takes room from the thread
new ResizeObserver(scrollDown).observe(thread);

function showKeyboard() {
  const owner = messages.findLast((message) => message.keyboard && !message.keyboard.inline);
  const used = owner?.keyboard.one_time && messages.some((message) => !message.out && message.id > owner.id);
  keyboard.replaceChildren(...(owner && !used ? rows(owner.keyboard, owner) : []));
}

function showStart() {
  const start = make("button", { type: "button", onclick: () => send(words.start, { command: "start" }) }, words.start);
  start.dataset.payload = JSON.stringify({ command: "start" });
  thread.replaceChildren(make("div", { className: "start" }, words.silent, start));
}

// ---- buttons

function rows(content, message) {
  return content.buttons.map((row) => make("div", { className: "row" }, ...row.map((button) => showButton(button, message))));
}

function showButton({ action, color }, message) {
  if (action.type === "open_link" && /^https?:/.test(action.link)) {
    return make("a", { href: action.link, target: "_blank", rel: "noopener" }, action.label);
  }
  const press = { text: () => send(action.label, action.payload), callback: () => tell(action, message) }[action.type];
  const properties = { type: "button", className: color ?? "", onclick: press, disabled: !press, title: press ? "" : words.elsewhere };
  const button = make("button", properties, action.label ?? action.type);
  button.dataset.payload = typeof action.payload === "string" ? action.payload : JSON.stringify(action.payload ?? {});
  return button;
}

async function tell(action, message) {
  await act(async () => {
    const press = { from_id: chosen, conversation_message_id: message.conversation_message_id, payload: action.payload || {} };
    const { event_id } = await call("presses", press);
    for (let second = 0; second < PATIENCE; second += 1) {
      const { answered, answer } = await call(`presses/${event_id}`);
      if (answered) return say(answer?.text ?? answer?.link ?? "", PATIENCE);
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
    return say(words.slow);
  });
}

// ---- writing

function send(text, payload) {
  return act(async () => {
    await call("messages", { from_id: chosen, text, ...(payload ? { payload } : {}) });
    await look();
  });
}

async function act(action) {
  say("");
  try {
    await action();
  } catch (error) {
    say(error instanceof TypeError ? words.down : error.message);
  }
}

write.onsubmit = async (event) => {
  event.preventDefault();
  const text = write.text.value.trim();
  if (!text) return;
  write.text.value = "";
  await send(text);
};
write.text.onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  write.requestSubmit();
};

// ---- the loop

async function look() {
  const id = chosen;
  const after = messages.at(-1)?.conversation_message_id ?? 0;
  const { items, typing, heard } = await call(`messages?peer_id=${id}&after=${after}`);
  // the person or the dialog has changed while we were asking
  if (id !== chosen || after !== (messages.at(-1)?.conversation_message_id ?? 0)) return;
  if (!after && items.length) thread.replaceChildren();
  if (items.length) {
    messages.push(...items);
    thread.append(...items.map(showMessage));
    showKeyboard();
    scrollDown();
  } else if (!after && !thread.firstChild) {
    showStart();
  }
  const how = typing ? words.typing : heard ? words.online : words.offline;
  if (state.textContent !== how) state.textContent = how;
  const last = messages.at(-1);
  const waiting = last && !last.out && Date.now() / 1000 - last.date > PATIENCE;
  if (!heard) say(words.away);
  else if (waiting) say(words.slow);
  else if ([words.away, words.slow, words.down].includes(notice.textContent)) say("");
}

async function loop() {
  try {
    if (!document.hidden || !messages.length) {
      showPeople((await call("people")).items);
      await look();
    }
  } catch {
    say(words.down);
  }
  setTimeout(loop, PAUSE);
}

loop();
